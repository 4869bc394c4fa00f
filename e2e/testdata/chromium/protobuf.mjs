// As much of Protocol Buffers as the checks need.

function varint(n) {
  const out = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push(n % 128 + 128);
  return [...out, n];
}

// join puts byte strings together: the fields of a message, for one.
export function join(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

// number and bytes are fields of a message.
export function number(field, n) {
  return new Uint8Array([field << 3, ...varint(n)]);
}

export function bytes(field, ...parts) {
  const whole = join(...parts);
  return join(new Uint8Array([field << 3 | 2, ...varint(whole.length)]), whole);
}

// fields decodes a message whose fields are numbers and bytes, each at most once.
export function fields(message) {
  const out = {};
  let at = 0;
  const read = () => {
    let n = 0;
    for (let scale = 1; ; scale *= 128) {
      const b = message[at++];
      n += (b & 127) * scale;
      if (b < 128) return n;
    }
  };
  while (at < message.length) {
    const key = read();
    if (key & 7) {
      const n = read();
      out[key >> 3] = message.subarray(at, at += n);
    } else {
      out[key >> 3] = read();
    }
  }
  return out;
}
