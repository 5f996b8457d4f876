// Counter-based random numbers, the same as those of shards/core/rng.py and trainer/noise.py to the last bit or two.
// Words are 32 bits, and `>>> 0` keeps them unsigned.

function mix(word) {
  word ^= word >>> 16;
  word = Math.imul(word, 0x21f0aaad);
  word ^= word >>> 15;
  word = Math.imul(word, 0x735a2d97);
  return (word ^ (word >>> 15)) >>> 0;
}

const low = (number) => number % 2 ** 32 >>> 0;
const high = (number) => Math.floor(number / 2 ** 32) >>> 0;

// Return the key of a purpose, given by the CRC-32 of its name, under a seed below 2^53.
const keyOf = (seed, purpose) => mix(mix(mix(purpose) ^ low(seed)) ^ high(seed));

// Return 32 random bits for a position and channel.
function bits(key, position, channel = 0) {
  const word = mix(mix((key ^ low(position)) >>> 0) ^ high(position));
  return mix((mix(word ^ channel) + word) >>> 0);
}

// Return `size` standard normal numbers (Box & Muller 1958): the noise of position 0.
function normalNoise(seed, purpose, size) {
  const key = keyOf(seed, purpose);
  const pairs = Math.ceil(size / 2);
  const uniform = (channel) => (bits(key, 0, channel) + 0.5) / 2 ** 32;
  const noise = new Float32Array(2 * pairs);
  for (let i = 0; i < pairs; i++) {
    const radius = Math.sqrt(-2 * Math.log(uniform(i)));
    const angle = 2 * Math.PI * uniform(pairs + i);
    noise[i] = radius * Math.cos(angle);
    noise[pairs + i] = radius * Math.sin(angle);
  }
  return noise.subarray(0, size);
}

// Return which of `total` rows a seed draws first: the permutation of shards/core/permutation.py at 0.
function drawnRow(total, seed, purpose) {
  const base = bits(keyOf(seed, purpose), 0);
  const columns = Math.ceil(Math.sqrt(total));
  const rows = Math.ceil(total / columns);
  let index = 0;
  do {
    let row = Math.floor(index / columns);
    let column = index % columns;
    for (let turn = 0; turn < 8; turn += 2) {
      row = (row + bits(base, column, turn)) % rows;
      column = (column + bits(base, row, turn + 1)) % columns;
    }
    index = row * columns + column;
  } while (index >= total);
  return index;
}
