// Node's http and https modules against a node of the gateway: node http1.mjs HTTP-URL HTTPS-URL FOLDER
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const [plain, secure, folder] = process.argv.slice(2);

// ask sends a request, its body in pieces, and resolves to the response with all of its body.
function ask(url, options, pieces = []) {
  return new Promise((resolve, reject) => {
    const req = (url.startsWith('https') ? https : http).request(url, options, (res) => {
      let text = '';
      res.setEncoding('utf8').on('data', (d) => { text += d; }).on('error', reject);
      res.on('end', () => resolve({ res, text, socket: req.reusedSocket }));
    });
    req.on('error', reject);
    if (options.headers?.Expect) {
      req.flushHeaders();
      req.on('continue', () => { req.continued = true; for (const p of pieces) req.write(p); req.end(); });
      return;
    }
    for (const p of pieces) req.write(p);
    req.end();
  });
}

for (const [base, module, tls] of [
  [plain, http, {}],
  [secure, https, { ca: readFileSync(`${folder}/ca.pem`), cert: readFileSync(`${folder}/client.pem`), key: readFileSync(`${folder}/client.key`) }],
  [secure, https, { ca: readFileSync(`${folder}/ca.pem`), maxVersion: 'TLSv1.2' }],
]) {
  const agent = new module.Agent({ keepAlive: true, maxSockets: 1, ...tls });
  for (let i = 0; i < 10; i++) {
    const { res, text, socket } = await ask(`${base}/echo/n${i}`, { agent });
    assert.equal(res.statusCode, 200);
    assert.equal(JSON.parse(text).Path, `/echo/n${i}`);
    assert.equal(JSON.parse(text).Client !== '', tls.cert !== undefined);
    assert.equal(res.trailers['x-whole'], 'yes');
    assert.equal(socket, i > 0, 'the connection is kept');
  }
  const pieces = Array.from({ length: 20 }, (_, i) => Buffer.alloc(10_000, i));
  const sum = createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
  for (const headers of [{}, { Expect: '100-continue' }, { 'Content-Length': 200_000 }]) {
    const { res, text } = await ask(`${base}/echo/up`, { agent, method: 'POST', headers }, pieces);
    assert.equal(res.statusCode, 200);
    assert.equal(JSON.parse(text).Sum, sum);
  }
  const missing = await ask(`${base}/nowhere`, { agent });
  assert.equal(missing.res.statusCode, 404);
  assert.equal(JSON.parse(missing.text).error.code, 'ROUTE_NOT_FOUND');
  const head = await ask(`${base}/echo/head`, { agent, method: 'HEAD' });
  assert.equal(head.res.statusCode, 200);
  assert.equal(head.text, '');
  agent.destroy();
}
console.log('all is well');
