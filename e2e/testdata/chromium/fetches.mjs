// Ordinary requests by fetch.

async function sum(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)).toHex();
}

// get asks with credentials: without them a browser uses connections of their own, which sockets do not share.
async function get(base) {
  const res = await fetch(`${base}/echo/get?a=b`, { credentials: 'include' });
  const { Method, Path, Protocol } = await res.json();
  return { status: res.status, Method, Path, Protocol };
}

// concurrent has more requests under way than a browser opens connections.
async function concurrent(base) {
  const paths = Array.from({ length: 50 }, (_, i) => `/echo/n${i}`);
  const got = await Promise.all(paths.map(async (path) => (await (await fetch(base + path)).json()).Path));
  return got.filter((path, i) => path === paths[i]).length;
}

// upload needs a preflight, for its method as for its field.
async function upload(base) {
  const body = new Uint8Array(1 << 20).map((_, i) => i * 31 >> 3);
  const res = await fetch(`${base}/echo/up`, { method: 'PUT', body, headers: { 'X-Of-The-Page': 'yes' } });
  const { Method, Bytes, Sum } = await res.json();
  return { Method, Bytes, same: Sum === await sum(body) };
}

// streamedUpload sends a body of unknown length, which browsers do over HTTP/2 only.
async function streamedUpload(base) {
  const part = new Uint8Array(100_000).fill(7);
  let left = 10;
  const body = new ReadableStream({ pull(c) { if (left-- > 0) c.enqueue(part); else c.close(); } });
  const res = await fetch(`${base}/echo/stream`, { method: 'POST', body, duplex: 'half' });
  const { Bytes, Sum } = await res.json();
  return { Bytes, same: Sum === await sum(new Uint8Array(1_000_000).fill(7)) };
}

// aborted gives a response up whose body never ends, and asks whether the service was told.
async function aborted(base) {
  const given = new AbortController();
  const res = await fetch(`${base}/events/endless`, { signal: given.signal });
  const { value } = await res.body.getReader().read();
  given.abort();
  return { status: res.status, came: value.length > 0, told: (await fetch('/told/response')).ok };
}

// unavailable reads an error of the gateway.
async function unavailable(base) {
  const res = await fetch(`${base}/gone/x`);
  return { status: res.status, code: (await res.json()).error.code };
}

// tooLarge reads a refusal of the gateway.
async function tooLarge(base) {
  const res = await fetch(`${base}/small/x`, { method: 'POST', body: new Uint8Array(1001) });
  return { status: res.status, code: (await res.json()).error.code };
}

// otherOrigin asks from an origin that is not allowed: a worker from a data: URL is of none.
async function otherOrigin(base) {
  const script = `fetch(${JSON.stringify(`${base}/echo/other`)}).then((r) => r.text()).catch((e) => e.name).then((t) => postMessage(t))`;
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(script)}`);
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = (m) => resolve(m.data);
      worker.onerror = reject;
    });
  } finally {
    worker.terminate();
  }
}

export const checks = { get, concurrent, upload, streamedUpload, aborted, unavailable, tooLarge, otherOrigin };
