// A tensor is {shape, data}: a list of sizes and a typed array of all elements, the last dimension fastest.

const tensor = (shape, data) => ({ shape, data });
const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);
const empty = (shape) => tensor(shape, new Float32Array(sizeOf(shape)));
const isTensor = (value) => value !== null && typeof value === "object" && "data" in value;

// Return a dimension counted from the front; PyTorch counts negative ones from the end.
const fromFront = (dimension, rank) => (dimension < 0 ? dimension + rank : dimension);

// Return how many elements apart neighbours along each dimension are.
function stridesOf(shape) {
  const strides = new Array(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

// Split a shape at a dimension: [elements before it, its size, elements after it].
const around = (shape, dimension) => [
  sizeOf(shape.slice(0, dimension)),
  shape[dimension],
  sizeOf(shape.slice(dimension + 1)),
];

// Copy elements into a new contiguous tensor: element (i, j, …) of the result is at start + i·strides[0] + … of the source.
function gather(source, shape, strides, start = 0) {
  const data = new source.data.constructor(sizeOf(shape));
  const last = shape.length - 1;
  if (last < 0) {
    data[0] = source.data[start];
    return tensor(shape, data);
  }
  const index = new Array(last).fill(0);
  const width = shape[last];
  const step = strides[last];
  let from = start;
  for (let to = 0; to < data.length; to += width) {
    for (let i = 0; i < width; i++) data[to + i] = source.data[from + i * step];
    for (let d = last - 1; d >= 0; d--) {
      from += strides[d];
      if (++index[d] < shape[d]) break;
      from -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return tensor(shape, data);
}

// Return a tensor repeated along the dimensions that it lacks, or in which it has size 1 (-1: as it is).
function broadcast(source, shape) {
  const missing = shape.length - source.shape.length;
  const own = stridesOf(source.shape);
  const strides = shape.map((_, d) => (d < missing || source.shape[d - missing] === 1 ? 0 : own[d - missing]));
  return gather(source, shape.map((size, d) => (size < 0 ? source.shape[d - missing] : size)), strides);
}

// Return the shape of an elementwise operator's result.
function commonShape(a, b) {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, d) => {
    const sizes = [a[d + a.length - rank] ?? 1, b[d + b.length - rank] ?? 1];
    return sizes[0] === 1 ? sizes[1] : sizes[0];
  });
}

const sameShape = (a, b) => a.length === b.length && a.every((size, d) => size === b[d]);
