// WebSockets.

// Socket is a WebSocket whose messages are waited for.
class Socket {
  constructor(base, path, protocols = []) {
    this.ws = new WebSocket(base.replace(/^http/, 'ws') + path, protocols);
    this.ws.binaryType = 'arraybuffer';
    this.messages = [];
    this.waiting = [];
    this.ws.onmessage = ({ data }) => (this.waiting.shift() ?? ((d) => this.messages.push(d)))(data);
    this.closed = new Promise((resolve) => {
      this.ws.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
    });
    this.opened = new Promise((resolve, reject) => {
      this.ws.onopen = resolve;
      this.ws.onerror = () => reject(new Error('the socket does not open'));
    });
  }

  next() {
    return this.messages.length > 0 ? Promise.resolve(this.messages.shift()) : new Promise((resolve) => this.waiting.push(resolve));
  }

  // ask sends a message and reports whether the next one that comes is the same.
  async ask(message) {
    this.ws.send(message);
    const got = await this.next();
    if (typeof message === 'string') return got === message;
    return got instanceof ArrayBuffer && equal(new Uint8Array(got), message);
  }
}

function equal(a, b) {
  return a.length === b.length && a.every((v, i) => v === b[i]);
}

function noise(n, seed) {
  return new Uint8Array(n).map(() => (seed = Math.imul(seed, 1664525) + 1013904223) >>> 24);
}

async function short(base, path) {
  const s = new Socket(base, path);
  await s.opened;
  const same = await s.ask('short');
  s.ws.close(1000);
  return { same, ...await s.closed };
}

export const first = (base) => short(base, '/ws/first');

async function socket(base) {
  const s = new Socket(base, '/ws/socket', ['other', 'echo']);
  await s.opened;
  const got = {
    protocol: s.ws.protocol,
    empty: await s.ask(''),
    text: await s.ask('grüße, 世界, 🙂'),
    binary: await s.ask(noise(256, 1)),
    large: await s.ask(noise(1 << 20, 2)),
    largeText: await s.ask('0123456789abcdefü'.repeat(1 << 16)),
  };
  s.ws.close(4001, 'that is all');
  return { ...got, ...await s.closed };
}

// burst sends all of its messages before it has received one.
async function burst(base) {
  const s = new Socket(base, '/ws/burst');
  await s.opened;
  const sent = Array.from({ length: 200 }, (_, i) => noise(i * 97, i));
  for (const m of sent) s.ws.send(m);
  let same = 0;
  for (const m of sent) same += equal(new Uint8Array(await s.next()), m);
  s.ws.close(1000);
  return { same, ...await s.closed };
}

async function sideBySide(base) {
  const all = Array.from({ length: 8 }, (_, i) => new Socket(base, `/ws/side${i}`));
  const same = await Promise.all(all.map(async (s, i) => {
    await s.opened;
    return s.ask(noise(64 << 10, i));
  }));
  for (const s of all) s.ws.close(1000);
  const closed = await Promise.all(all.map((s) => s.closed));
  return { same: same.filter(Boolean).length, clean: closed.filter((c) => c.wasClean && c.code === 1000).length };
}

// closedByService has the service begin the closing handshake.
async function closedByService(base) {
  const s = new Socket(base, '/ws/goodbye');
  await s.opened;
  s.ws.send('goodbye');
  return s.closed;
}

// brokenOff has the service end its connection without a closing handshake.
async function brokenOff(base) {
  const s = new Socket(base, '/ws/break');
  await s.opened;
  s.ws.send('break off');
  return s.closed;
}

// refused is answered with 403 by the service, and with 502 by the gateway; another socket opens after that.
async function refused(base) {
  const got = [];
  for (const path of ['/ws/refused', '/gone/ws']) {
    const s = new Socket(base, path);
    s.opened.catch(() => {});
    got.push((await s.closed).code);
  }
  return { got, after: await short(base, '/ws/after') };
}

export const checks = { socket, burst, sideBySide, closedByService, brokenOff, refused };
