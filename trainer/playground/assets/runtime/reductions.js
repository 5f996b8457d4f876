// Sums, means and the normalizations that are made of them.

// Fold all elements along some dimensions: f(accumulated, element), from a first value.
function folded(a, dimensions, keep, f, first) {
  const rank = a.shape.length;
  const chosen = (dimensions?.length ? dimensions : a.shape.map((_, d) => d)).map((d) => fromFront(d, rank));
  const kept = a.shape.map((size, d) => (chosen.includes(d) ? 1 : size));
  const order = [...a.shape.keys()].filter((d) => !chosen.includes(d)).concat([...chosen].sort((x, y) => x - y));
  const sorted = operators["aten.permute.default"](a, order).data;
  const result = empty(keep ? kept : a.shape.filter((_, d) => !chosen.includes(d)));
  const length = sorted.length / result.data.length;
  for (let row = 0, at = 0; row < result.data.length; row++) {
    let value = first;
    for (let i = 0; i < length; i++) value = f(value, sorted[at++]);
    result.data[row] = value;
  }
  return result;
}

const sum = (a, dimensions, keep) => folded(a, dimensions, keep, (total, x) => total + x, 0);
const mean = (a, dimensions, keep) => {
  const total = sum(a, dimensions, keep);
  return multiply(total, total.data.length / a.data.length);
};
const largest = (a, dimensions, keep) => folded(a, dimensions, keep, Math.max, -Infinity);

operators["aten.sum.dim_IntList"] = sum;
operators["aten.mean.dim"] = mean;
operators["aten.mean.default"] = (a) => mean(a, null, false);
operators["aten.amax.default"] = largest;

operators["aten._softmax.default"] = (a, dimension) => {
  const powers = mapped(subtract(a, largest(a, [dimension], true)), Math.exp);
  return divide(powers, sum(powers, [dimension], true));
};

operators["aten.var.correction"] = (a, dimensions, correction, keep) => {
  const squares = mapped(subtract(a, mean(a, dimensions, true)), (x) => x * x);
  const total = sum(squares, dimensions, keep);
  return divide(total, a.data.length / total.data.length - (correction ?? 1));
};

// (x - average) / √(variance + ε): the two come with sizes 1 where they are shared.
const standardized = (x, average, variance, epsilon) =>
  multiply(subtract(x, average), mapped(variance, (v) => 1 / Math.sqrt(v + epsilon)));

const scaledAndShifted = (x, weight, bias) => {
  const scaled = weight === null ? x : multiply(x, weight);
  return bias === null ? scaled : add(scaled, bias);
};

const perChannel = (vector, rank) => vector && tensor([vector.data.length, ...new Array(rank - 2).fill(1)], vector.data);

// Normalize by recorded statistics, as in eval mode. Results: the image, and two that nothing uses.
operators["aten._native_batch_norm_legit_no_training.default"] = (x, weight, bias, average, variance, _, epsilon) => {
  const [w, b, m, v] = [weight, bias, average, variance].map((vector) => perChannel(vector, x.shape.length));
  return [scaledAndShifted(standardized(x, m, v, epsilon), w, b)];
};

operators["aten.native_layer_norm.default"] = (x, shape, weight, bias, epsilon) => {
  const last = shape.map((_, d) => d - shape.length);
  const variance = operators["aten.var.correction"](x, last, 0, true);
  return [scaledAndShifted(standardized(x, mean(x, last, true), variance, epsilon), weight, bias)];
};

operators["aten.native_group_norm.default"] = (x, weight, bias, count, channels, pixels, groups, epsilon) => {
  const rows = tensor([count * groups, (channels / groups) * pixels], x.data);
  const variance = operators["aten.var.correction"](rows, [1], 0, true);
  const even = tensor(x.shape, standardized(rows, mean(rows, [1], true), variance, epsilon).data);
  return [scaledAndShifted(even, perChannel(weight, x.shape.length), perChannel(bias, x.shape.length))];
};
