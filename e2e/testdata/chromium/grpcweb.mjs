// A client of gRPC-Web.
import { join } from './protobuf.mjs';

// frame puts a message, or trailers, into what stands around each in a body: a flag and the length.
function frame(message) {
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, message.length);
  return join(head, message);
}

// decoded makes bytes of a stream of base64, in which padding may stand at the end of any piece.
function decoded() {
  const ascii = new TextDecoder();
  let rest = '';
  return new TransformStream({
    transform(chunk, controller) {
      rest += ascii.decode(chunk);
      const whole = rest.slice(0, rest.length - rest.length % 4);
      rest = rest.slice(whole.length);
      for (const piece of whole.match(/[^=]+=*/g) ?? []) controller.enqueue(Uint8Array.fromBase64(piece));
    },
    flush() {
      if (rest !== '') throw new Error(`the body ends with ${rest}, which is not whole`);
    },
  });
}

// trailers are lines as in HTTP/1.
function trailers(text) {
  return new Headers(Array.from(text.matchAll(/(.+?): (.*)\r\n/gy), ([, name, value]) => [name, value]));
}

// Call is one call. Its messages are read one by one as they come; status and the rest are there after the last.
export class Call {
  constructor(base, method, message, { text = false, metadata = {}, signal } = {}) {
    this.url = `${base}/${method}`;
    this.type = text ? 'application/grpc-web-text+proto' : 'application/grpc-web+proto';
    const body = frame(message);
    this.init = {
      method: 'POST', body: text ? body.toBase64() : body, signal,
      headers: { 'Content-Type': this.type, Accept: this.type, 'X-Grpc-Web': '1', 'X-User-Agent': 'by hand', ...metadata },
    };
    this.text = text;
  }

  async* messages() {
    const res = await fetch(this.url, this.init);
    this.headers = res.headers;
    this.http = res.status;
    if (res.headers.has('grpc-status')) { // of the gateway, which had no answer of the service
      this.end(res.headers);
      return;
    }
    if (res.headers.get('Content-Type') !== this.type) throw new Error(`the response is ${res.headers.get('Content-Type')}`);
    let rest = new Uint8Array(0);
    for await (const chunk of this.text ? res.body.pipeThrough(decoded()) : res.body) {
      rest = join(rest, chunk);
      while (rest.length >= 5) {
        const end = 5 + new DataView(rest.buffer, rest.byteOffset).getUint32(1);
        if (rest.length < end) break;
        if (this.trailers) throw new Error('something comes after the trailers');
        if (rest[0] === 0x80) {
          this.end(trailers(new TextDecoder().decode(rest.subarray(5, end))));
        } else if (rest[0] === 0) {
          yield rest.subarray(5, end);
        } else {
          throw new Error(`the flag is ${rest[0]}`);
        }
        rest = rest.subarray(end);
      }
    }
    if (!this.trailers) throw new Error('there are no trailers');
    if (rest.length > 0) throw new Error(`${rest.length} bytes are left`);
  }

  end(fields) {
    this.trailers = fields;
    this.status = Number(fields.get('grpc-status'));
    this.message = decodeURIComponent(fields.get('grpc-message') ?? '');
  }

  // all reads the call to its end.
  async all() {
    const out = [];
    for await (const m of this.messages()) out.push(m);
    return out;
  }
}
