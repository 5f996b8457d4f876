// Operators that rearrange elements and compute nothing.

const identity = (a) => a;

operators["aten.clone.default"] = identity;
operators["aten.alias.default"] = identity;
operators["aten._to_copy.default"] = identity; // other dtypes than float32 are refused when the page is written
operators["getitem"] = (results, number) => results[number];

// A dimension of -1 takes what the others leave.
operators["aten.view.default"] = (a, sizes) => {
  const given = sizes.reduce((product, size) => (size < 0 ? product : product * size), 1);
  return tensor(sizes.map((size) => (size < 0 ? a.data.length / given : size)), a.data);
};

operators["aten.unsqueeze.default"] = (a, dimension) => {
  const shape = [...a.shape];
  shape.splice(fromFront(dimension, shape.length + 1), 0, 1);
  return tensor(shape, a.data);
};

const squeeze = (a, dimensions) => {
  const chosen = dimensions.map((d) => fromFront(d, a.shape.length));
  return tensor(a.shape.filter((size, d) => size !== 1 || !chosen.includes(d)), a.data);
};

operators["aten.squeeze.dim"] = (a, dimension) => squeeze(a, [dimension]);
operators["aten.squeeze.dims"] = squeeze;

operators["aten.permute.default"] = (a, order) => {
  const dimensions = order.map((d) => fromFront(d, a.shape.length));
  const strides = stridesOf(a.shape);
  return gather(a, dimensions.map((d) => a.shape[d]), dimensions.map((d) => strides[d]));
};

operators["aten.expand.default"] = (a, sizes) => broadcast(a, sizes);

operators["aten.repeat.default"] = (a, repeats) => {
  const padded = [...new Array(repeats.length - a.shape.length).fill(1), ...a.shape];
  let result = tensor(padded, a.data);
  repeats.forEach((count, d) => {
    if (count !== 1) result = concatenate(new Array(count).fill(result), d);
  });
  return result;
};

function concatenate(parts, dimension) {
  const d = fromFront(dimension, parts[0].shape.length);
  const shape = [...parts[0].shape];
  shape[d] = parts.reduce((sum, part) => sum + part.shape[d], 0);
  const result = empty(shape);
  const [before, size, after] = around(shape, d);
  let offset = 0;
  for (const part of parts) {
    const length = part.shape[d] * after;
    for (let row = 0; row < before; row++) {
      result.data.set(part.data.subarray(row * length, (row + 1) * length), row * size * after + offset);
    }
    offset += length;
  }
  return result;
}

operators["aten.cat.default"] = concatenate;

// Return elements start, start + step, … before end along a dimension.
function slice(a, dimension, start, end, step = 1) {
  const d = fromFront(dimension, a.shape.length);
  const size = a.shape[d];
  const clip = (place) => Math.min(Math.max(place < 0 ? place + size : place, 0), size);
  const first = clip(start ?? 0);
  const shape = [...a.shape];
  shape[d] = Math.max(0, Math.ceil((clip(end ?? size) - first) / step));
  const strides = stridesOf(a.shape);
  return gather(a, shape, strides.map((stride, i) => (i === d ? stride * step : stride)), first * strides[d]);
}

operators["aten.slice.Tensor"] = slice;

operators["aten.select.int"] = (a, dimension, place) => {
  const d = fromFront(dimension, a.shape.length);
  const at = fromFront(place, a.shape[d]);
  const part = slice(a, d, at, at + 1);
  return tensor(part.shape.filter((_, i) => i !== d), part.data);
};

operators["aten.split_with_sizes.default"] = (a, sizes, dimension) => {
  let start = 0;
  return sizes.map((size) => slice(a, dimension, start, (start += size)));
};

// Return the places of a dimension that an integer tensor names.
function take(a, dimension, places) {
  const d = fromFront(dimension, a.shape.length);
  const [before, size, after] = around(a.shape, d);
  const count = places.data.length;
  const data = new a.data.constructor(before * count * after);
  for (let row = 0; row < before; row++) {
    for (let i = 0; i < count; i++) {
      const from = (row * size + fromFront(Number(places.data[i]), size)) * after;
      data.set(a.data.subarray(from, from + after), (row * count + i) * after);
    }
  }
  return tensor([...a.shape.slice(0, d), ...places.shape, ...a.shape.slice(d + 1)], data);
}

operators["aten.index_select.default"] = take;

operators["aten.index.Tensor"] = (a, indices) => {
  const named = indices.flatMap((index, d) => (index === null ? [] : [d]));
  if (named.length !== 1) throw new Error("aten.index.Tensor with several indices");
  return take(a, named[0], indices[named[0]]);
};

operators["aten.flip.default"] = (a, dimensions) => {
  const chosen = dimensions.map((d) => fromFront(d, a.shape.length));
  const strides = stridesOf(a.shape);
  const start = chosen.reduce((sum, d) => sum + (a.shape[d] - 1) * strides[d], 0);
  return gather(a, a.shape, strides.map((stride, d) => (chosen.includes(d) ? -stride : stride)), start);
};

// Pads are pairs (before, after) from the last dimension backwards; negative ones cut.
operators["aten.constant_pad_nd.default"] = (a, pads, value) => {
  let result = a;
  for (let pair = 0; pair < pads.length / 2; pair++) {
    const d = a.shape.length - 1 - pair;
    const block = (count) => {
      const filled = empty(result.shape.map((size, i) => (i === d ? count : size)));
      filled.data.fill(value);
      return filled;
    };
    const [before, after] = [pads[2 * pair], pads[2 * pair + 1]];
    result = slice(result, d, Math.max(0, -before), result.shape[d] - Math.max(0, -after));
    result = concatenate([block(Math.max(0, before)), result, block(Math.max(0, after))], d);
  }
  return result;
};
