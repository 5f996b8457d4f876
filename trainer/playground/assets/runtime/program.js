// Runs a generator: its constants and its list of operators, which `trainer/playground/program.py` traced.

// Decode base64 to bytes. `atob` works on pieces, so that no string of several hundred megabytes is made at once.
function decodeBase64(text) {
  const PIECE = 1 << 20; // a multiple of 4
  const bytes = new Uint8Array(Math.floor((text.length / 4) * 3));
  let at = 0;
  for (let start = 0; start < text.length; start += PIECE) {
    const piece = atob(text.slice(start, start + PIECE));
    for (let i = 0; i < piece.length; i++) bytes[at++] = piece.charCodeAt(i);
  }
  return bytes.subarray(0, at);
}

// Return the number that 16 bits stand for (IEEE 754 binary16).
function halfToNumber(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : (sign * 2 ** -14 * fraction) / 1024;
}

const HALVES = Float32Array.from({ length: 1 << 16 }, (_, bits) => halfToNumber(bits));

// How the numbers of a constant are stored, little-endian.
const READERS = {
  float16: (view, count) => Float32Array.from({ length: count }, (_, i) => HALVES[view.getUint16(2 * i, true)]),
  float32: (view, count) => Float32Array.from({ length: count }, (_, i) => view.getFloat32(4 * i, true)),
  int32: (view, count) => Int32Array.from({ length: count }, (_, i) => view.getInt32(4 * i, true)),
};

// Wait until the browser has answered what the reader did in the meantime.
const breathe = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

class Program {
  // content: {constants: [{shape, dtype, start}], steps: [[name, arguments]], result}; bytes: of all constants.
  constructor(content, bytes) {
    this.steps = content.steps;
    this.result = content.result;
    this.constants = content.constants.map(({ shape, dtype, start }) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset + start);
      return tensor(shape, READERS[dtype](view, sizeOf(shape)));
    });
    this.lastUse = this.findLastUses(3 + this.constants.length);
  }

  // Return for each step the values that no later step needs.
  findLastUses(firstResult) {
    const user = new Map();
    const visit = (part, step) => {
      if (Array.isArray(part)) part.forEach((p) => visit(p, step));
      else if (part !== null && typeof part === "object" && part.value >= firstResult) user.set(part.value, step);
    };
    this.steps.forEach(([, args], step) => visit(args, step));
    const lists = this.steps.map(() => []);
    for (const [value, step] of user) if (value !== this.result) lists[step].push(value);
    return lists;
  }

  // Draw one image: z, label and known are Float32Arrays; returns {shape: [1, 3, S, S], data} in about -1 … 1.
  // Between operators, waiting events get their turn; `signal` aborts.
  async run(z, label, known, signal) {
    const values = [z, label, known].map((data) => tensor([1, data.length], data)).concat(this.constants);
    const resolve = (part) => {
      if (Array.isArray(part)) return part.map(resolve);
      return part !== null && typeof part === "object" ? values[part.value] : part;
    };
    let rested = performance.now();
    for (let step = 0; step < this.steps.length; step++) {
      const [name, args] = this.steps[step];
      values.push(operators[name](...resolve(args)));
      for (const value of this.lastUse[step]) values[value] = null;
      if (performance.now() - rested > 24) {
        await breathe();
        signal?.throwIfAborted();
        rested = performance.now();
      }
    }
    return values[this.result];
  }
}

// Return an image in -1 … 1 as bytes, red, green, blue and alpha for each pixel; rounded as `cgan sample` rounds, to even.
function toPixels(image) {
  const [, channels, height, width] = image.shape;
  const plane = height * width;
  const pixels = new Uint8ClampedArray(4 * plane);
  for (let p = 0; p < plane; p++) {
    for (let c = 0; c < channels; c++) {
      pixels[4 * p + c] = (Math.min(1, Math.max(-1, image.data[c * plane + p])) + 1) * 127.5;
    }
    if (channels === 1) pixels.fill(pixels[4 * p], 4 * p + 1, 4 * p + 3);
    if (channels < 4) pixels[4 * p + 3] = 255;
    if (pixels[4 * p + 3] === 0) pixels.fill(0, 4 * p, 4 * p + 3); // no colour where nothing is seen
  }
  return pixels;
}
