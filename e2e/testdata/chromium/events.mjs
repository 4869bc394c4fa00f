// Server-sent events by EventSource.

// next resolves to the next event of a name.
function next(source, name) {
  return new Promise((resolve) => {
    source.addEventListener(name, (e) => resolve({ id: e.lastEventId, data: e.data }), { once: true });
  });
}

// events says that it has seen the first event, before which the service does not send the second. When the response ends the browser
// comes again by itself and says what it has.
async function events(base) {
  const source = new EventSource(`${base}/events`);
  const all = [next(source, 'message'), next(source, 'named'), next(source, 'again')];
  const got = [await all[0]];
  await fetch(`${base}/events/seen`, { method: 'POST' });
  got.push(await all[1], await all[2]);
  source.close();
  return { got, told: (await fetch('/told/events')).ok };
}

export const checks = { events };
