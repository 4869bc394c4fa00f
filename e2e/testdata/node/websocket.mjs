// WebSocket through a node of the gateway, over HTTP/1.1 and HTTP/2, with and without TLS: node websocket.mjs HTTP-URL HTTPS-URL FOLDER
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { BINARY, CLOSE, PING, PONG, TEXT, frame, messages } from './frames.mjs';

const [plain, secure, folder] = process.argv.slice(2);
const tls = { ca: readFileSync(`${folder}/ca.pem`) };

// talk holds a conversation on a stream that has been opened, to its orderly end.
async function talk(stream, name) {
  const heard = messages(stream, { masked: false });
  const say = (opcode, payload, last = true) => stream.write(frame(opcode, payload, { masked: true, last }));
  const hear = async (opcode, payload) => {
    const { value, done } = await heard.next();
    assert.ok(!done, `${name}: it is over`);
    assert.equal(value[0], opcode, name);
    assert.ok(value[1].equals(payload), `${name}: ${value[1].length} bytes instead of ${payload.length}`);
  };
  for (const size of [0, 5, 125, 126, 65535, 65536, 1 << 20]) {
    const payload = randomBytes(size);
    say(BINARY, payload);
    await hear(BINARY, payload);
  }
  say(TEXT, Buffer.from('in '), false);
  say(PING, Buffer.from(name));
  say(0, Buffer.from('parts: '), false);
  say(0, Buffer.from(name));
  await hear(PONG, Buffer.from(name));
  await hear(TEXT, Buffer.from(`in parts: ${name}`));
  const all = Array.from({ length: 200 }, (_, i) => Buffer.from(`${name} ${i}`));
  for (const one of all) say(TEXT, one); // without waiting
  for (const one of all) await hear(TEXT, one);
  const why = Buffer.from([3, 232]);
  say(CLOSE, why);
  await hear(CLOSE, why);
  stream.end();
  assert.ok((await heard.next()).done, `${name}: there is more after the end`);
}

// over1 opens a stream by Upgrade.
async function over1(client, base, path, options) {
  const key = randomBytes(16).toString('base64');
  const req = client.request(base + path, {
    ...options, agent: false, headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Protocol': 'chat' },
  });
  req.end();
  const [res, socket, first] = await once(req, 'upgrade');
  assert.equal(res.statusCode, 101);
  assert.equal(res.headers['sec-websocket-accept'], createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'));
  assert.equal(res.headers['sec-websocket-protocol'], 'chat');
  assert.equal(res.headers['x-path'], path);
  if (first.length > 0) socket.unshift(first);
  return socket;
}

// over2 opens a stream by extended CONNECT.
async function over2(session, path) {
  const { protocol, host } = new URL(session.base);
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': protocol.slice(0, -1), ':authority': host, ':path': path, 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat',
  }, { endStream: false });
  const [fields] = await once(stream, 'response');
  assert.equal(fields[':status'], 200);
  assert.equal(fields['sec-websocket-accept'], undefined);
  assert.equal(fields['sec-websocket-protocol'], 'chat');
  assert.equal(fields['x-path'], path);
  return stream;
}

for (const [client, base, options] of [[http, plain, {}], [https, secure, tls]]) {
  const names = Array.from({ length: 5 }, (_, i) => `/ws/one-${i}`);
  await Promise.all(names.map(async (path) => talk(await over1(client, base, path, options), path)));
}
for (const [base, options] of [[plain, {}], [secure, tls]]) {
  const session = http2.connect(base, options);
  session.base = base;
  await once(session, 'remoteSettings');
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  const names = Array.from({ length: 5 }, (_, i) => `/ws/two-${i}`);
  await Promise.all(names.map(async (path) => talk(await over2(session, path), path)));
  // One that is given up leaves the others alone, as do requests beside it.
  const given = await over2(session, '/ws/given-up');
  const other = await over2(session, '/ws/other');
  given.on('error', () => {});
  given.close(http2.constants.NGHTTP2_CANCEL);
  const get = session.request({ ':path': '/ws/get' });
  get.setEncoding('utf8');
  let text = '';
  for await (const part of get) text += part;
  assert.equal(text, 'GET /ws/get');
  await talk(other, '/ws/other');
  session.close();
  await once(session, 'close');
}
console.log('all is well');
