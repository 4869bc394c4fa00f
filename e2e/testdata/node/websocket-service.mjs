// A service of HTTP/2 that takes WebSocket by extended CONNECT (RFC 8441) and sends back what comes. It says its port when it can be asked, and its
// complaints on stderr.
import http2 from 'node:http2';
import { BINARY, CLOSE, PING, PONG, TEXT, frame, messages } from './frames.mjs';

const server = http2.createServer({ settings: { enableConnectProtocol: true } });
server.on('stream', async (stream, fields) => {
  stream.on('error', () => {});
  if (fields[':method'] !== 'CONNECT') {
    stream.respond({ ':status': 200 });
    stream.end(`${fields[':method']} ${fields[':path']}`);
    return;
  }
  if (fields[':protocol'] !== 'websocket' || fields['sec-websocket-version'] !== '13' || fields['sec-websocket-key'] !== undefined || fields[':path'] === undefined) {
    console.error('not what RFC 8441 asks for:', fields);
    stream.respond({ ':status': 400 }, { endStream: true });
    return;
  }
  stream.respond({ ':status': 200, 'sec-websocket-protocol': fields['sec-websocket-protocol'] ?? 'none', 'x-path': fields[':path'] });
  const send = (opcode, payload) => stream.write(frame(opcode, payload, { masked: false }));
  try {
    for await (const [opcode, payload] of messages(stream, { masked: true })) {
      if (opcode === TEXT || opcode === BINARY) send(opcode, payload);
      if (opcode === PING) send(PONG, payload);
      if (opcode === CLOSE) {
        send(CLOSE, payload);
        stream.end();
      }
    }
  } catch (err) {
    if (!stream.aborted) console.error('after', fields[':path'], err);
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
