// Node's http2 module against a node of the gateway: node http2.mjs HTTP-URL HTTPS-URL FOLDER
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const [plain, secure, folder] = process.argv.slice(2);

// ask sends a request on a stream of its own and resolves to the response's fields, body and trailers.
function ask(session, fields, pieces = []) {
  return new Promise((resolve, reject) => {
    const stream = session.request(fields, { endStream: pieces.length === 0 });
    const got = { text: '', trailers: {} };
    stream.setEncoding('utf8');
    stream.on('response', (f) => { got.fields = f; });
    stream.on('trailers', (f) => { got.trailers = f; });
    stream.on('data', (d) => { got.text += d; });
    stream.on('end', () => resolve(got));
    stream.on('error', reject);
    if (pieces.length > 0) {
      for (const p of pieces) stream.write(p);
      stream.end();
    }
  });
}

for (const [base, tls] of [
  [plain, {}],
  [secure, { ca: readFileSync(`${folder}/ca.pem`), cert: readFileSync(`${folder}/client.pem`), key: readFileSync(`${folder}/client.key`) }],
]) {
  const session = http2.connect(base, tls);
  await once(session, 'connect');
  const gets = Array.from({ length: 50 }, (_, i) => ask(session, { ':path': `/echo/n${i}` }));
  for (const [i, got] of (await Promise.all(gets)).entries()) {
    assert.equal(got.fields[':status'], 200);
    assert.equal(JSON.parse(got.text).Path, `/echo/n${i}`);
    assert.equal(JSON.parse(got.text).Client !== '', tls.cert !== undefined);
    assert.equal(got.trailers['x-whole'], 'yes');
  }
  const pieces = Array.from({ length: 30 }, (_, i) => Buffer.alloc(10_000, i));
  const sum = createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
  const posts = Array.from({ length: 10 }, () => ask(session, { ':method': 'POST', ':path': '/echo/up' }, pieces));
  for (const got of await Promise.all(posts)) assert.equal(JSON.parse(got.text).Sum, sum);
  const missing = await ask(session, { ':path': '/nowhere' });
  assert.equal(missing.fields[':status'], 404);
  assert.equal(JSON.parse(missing.text).error.code, 'ROUTE_NOT_FOUND');
  const head = await ask(session, { ':method': 'HEAD', ':path': '/echo/head' });
  assert.equal(head.fields[':status'], 200);
  const pong = await new Promise((resolve, reject) => session.ping((err, _, payload) => (err ? reject(err) : resolve(payload))));
  assert.equal(pong.length, 8);
  // A stream that is given up leaves the others alone.
  const given = session.request({ ':method': 'POST', ':path': '/echo/up' });
  given.on('error', () => {});
  given.close(http2.constants.NGHTTP2_CANCEL);
  assert.equal((await ask(session, { ':path': '/echo/after' })).fields[':status'], 200);
  session.close();
  await once(session, 'close');
}
console.log('all is well');
