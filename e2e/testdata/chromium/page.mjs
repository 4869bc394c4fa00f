// Runs all checks one after another and reports what each one came to: page.html?SCHEME=URL[&...]
import * as events from './events.mjs';
import * as fetches from './fetches.mjs';
import * as rpc from './rpc.mjs';
import * as sockets from './sockets.mjs';

const longest = 30_000; // milliseconds for one check: one that hangs leaves the others their turn

function report(result) {
  return fetch('/results', { method: 'POST', body: JSON.stringify(result) });
}

// settled resolves to what a check came to, or to the name of the error that it threw.
async function settled(check, base) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`nothing for ${longest} ms`)), longest));
  try {
    return { got: await Promise.race([check(base), late]) };
  } catch (e) {
    return { failed: `${e.name}: ${e.message}` };
  }
}

// The order matters: a socket that finds no connection of HTTP/2 opens one of HTTP/1.1, and later ones go over the connection that a fetch
// has opened; and a browser makes new sockets wait for seconds once some have failed.
const checks = { first: sockets.first, ...fetches.checks, ...events.checks, ...rpc.checks, ...sockets.checks };
const bases = new URLSearchParams(location.search);
for (const [name, check] of Object.entries(checks)) {
  for (const [scheme, base] of bases) {
    const start = performance.now();
    const came = await settled(check, base);
    await report({ name: `${scheme} ${name}`, ...came, milliseconds: Math.round(performance.now() - start) });
  }
}
await report({ name: 'end' });
