// Calls of the gRPC project's TestService by gRPC-Web, in binary and in text.
import { Call } from './grpcweb.mjs';
import { bytes, fields, join, number } from './protobuf.mjs';

const service = 'grpc.testing.TestService';
const nothing = new Uint8Array(0);

// payload returns the size of a response's payload, which has to be nothing but zeros.
function payload(message) {
  const body = fields(fields(message)[1])[2];
  return body.every((b) => b === 0) ? body.length : -1;
}

async function unary(base, text) {
  const request = join(number(2, 271_828), bytes(3, bytes(2, new Uint8Array(314_159))));
  const metadata = { 'x-grpc-test-echo-initial': 'in front', 'x-grpc-test-echo-trailing-bin': 'q6ur' };
  const call = new Call(base, `${service}/UnaryCall`, request, { text, metadata });
  const sizes = (await call.all()).map(payload);
  const { http, status } = call;
  return { http, status, sizes, initial: call.headers.get('x-grpc-test-echo-initial'), trailing: call.trailers.get('x-grpc-test-echo-trailing-bin') };
}

const sizes = [31_415, 9, 2_653, 58_979];

// stream has one message for each size. The service sends each but the first when it hears by seen that the one before was received.
const stream = (base, options) => new Call(base, `${service}/StreamingOutputCall`, join(...sizes.map((n) => bytes(2, number(1, n)))), options);
const seen = (base) => new Call(base, `${service}/EmptyCall`, nothing).all();

async function streaming(base, text) {
  const call = stream(base, { text });
  const got = [];
  for await (const message of call.messages()) {
    if (got.push(payload(message)) < sizes.length) await seen(base);
  }
  return { status: call.status, got };
}

// cancelled gives a call up after its first message, and asks whether the service was told.
async function cancelled(base) {
  const given = new AbortController();
  const call = stream(base, { signal: given.signal });
  const { value } = await call.messages().next();
  given.abort();
  return { size: payload(value), told: (await fetch('/told/call')).ok };
}

// deadline does not ask for the second message, for which the call would wait for ever.
async function deadline(base) {
  const call = stream(base, { metadata: { 'grpc-timeout': '500m' } });
  await call.all();
  return { status: call.status };
}

// failing is answered by the service with a status, after no message.
async function failing(base) {
  const said = 'what the service says: ü, %, 🙂';
  const call = new Call(base, `${service}/UnaryCall`, bytes(7, number(1, 9), bytes(2, new TextEncoder().encode(said))));
  const messages = await call.all();
  return { http: call.http, status: call.status, messages: messages.length, same: call.message === said };
}

async function unknown(base, text) {
  const call = new Call(base, `${service}/NoSuchCall`, nothing, { text });
  await call.all();
  return { http: call.http, status: call.status };
}

// unreachable is answered by the gateway, whose status is in the head.
async function unreachable(base) {
  const call = new Call(base, 'gone.Service/Call', nothing);
  await call.all();
  return { status: call.status, code: call.message.split(':')[0] };
}

export const checks = {
  unaryBinary: (base) => unary(base, false),
  unaryText: (base) => unary(base, true),
  streamingBinary: (base) => streaming(base, false),
  streamingText: (base) => streaming(base, true),
  cancelled,
  deadline,
  failing,
  unknownBinary: (base) => unknown(base, false),
  unknownText: (base) => unknown(base, true),
  unreachable,
};
