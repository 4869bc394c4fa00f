// WebSocket's frames (RFC 6455 section 5), by hand: no library that the gateway might agree with by chance.
import { randomBytes } from 'node:crypto';

export const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

// frame returns one frame; those of clients are masked.
export function frame(opcode, payload, { masked, last = true }) {
  const length = payload.length < 126 ? [payload.length] : payload.length < 65536 ? [126, payload.length >> 8, payload.length & 255] :
    [127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((by) => (payload.length >>> by) & 255)];
  const head = Buffer.from([(last ? 0x80 : 0) | opcode, ...length]);
  if (!masked) return Buffer.concat([head, payload]);
  head[1] |= 0x80;
  const key = randomBytes(4);
  return Buffer.concat([head, key, payload.map((c, i) => c ^ key[i % 4])]);
}

// messages reads whole messages, and what may come between their parts, off a stream: [opcode, payload].
export async function* messages(stream, { masked }) {
  let have = Buffer.alloc(0);
  let parts = [], first = 0;
  for await (const chunk of stream) {
    have = Buffer.concat([have, chunk]);
    for (;;) {
      if (have.length < 2) break;
      if ((have[1] & 0x80) !== (masked ? 0x80 : 0)) throw new Error(`a frame is masked: ${!masked}`);
      let length = have[1] & 127, at = 2;
      if (length > 125) {
        at += length === 126 ? 2 : 8;
        if (have.length < at) break;
        length = length === 126 ? have.readUInt16BE(2) : Number(have.readBigUInt64BE(2));
      }
      const key = masked ? have.subarray(at, at += 4) : undefined;
      if (have.length < at + length) break;
      const payload = Buffer.from(have.subarray(at, at + length));
      if (masked) payload.forEach((c, i) => { payload[i] = c ^ key[i % 4]; });
      const opcode = have[0] & 15, last = (have[0] & 0x80) !== 0;
      have = have.subarray(at + length);
      if (opcode >= CLOSE) {
        yield [opcode, payload];
        continue;
      }
      if (opcode !== 0) first = opcode;
      parts.push(payload);
      if (last) {
        yield [first, Buffer.concat(parts)];
        parts = [];
      }
    }
  }
  if (have.length > 0 || parts.length > 0) throw new Error('the stream ends within a message');
}
