// Operators that work element by element. `operators` holds every operator of the runtime under PyTorch's name for it;
// an operator receives all arguments by position, with PyTorch's defaults filled in.

const operators = Object.create(null);

// Return f of each element.
function mapped(a, f) {
  const data = new Float32Array(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = f(a.data[i]);
  return tensor(a.shape, data);
}

// Return f of each pair of elements; either side may be a number or need broadcasting.
function combined(a, b, f) {
  if (!isTensor(a)) return mapped(b, (y) => f(a, y));
  if (!isTensor(b)) return mapped(a, (x) => f(x, b));
  const shape = commonShape(a.shape, b.shape);
  const x = (sameShape(a.shape, shape) ? a : broadcast(a, shape)).data;
  const y = (sameShape(b.shape, shape) ? b : broadcast(b, shape)).data;
  const data = new Float32Array(x.length);
  for (let i = 0; i < data.length; i++) data[i] = f(x[i], y[i]);
  return tensor(shape, data);
}

const add = (a, b, alpha = 1) => combined(a, b, (x, y) => x + alpha * y);
const subtract = (a, b, alpha = 1) => combined(a, b, (x, y) => x - alpha * y);
const multiply = (a, b) => combined(a, b, (x, y) => x * y);
const divide = (a, b) => combined(a, b, (x, y) => x / y);
const power = (a, b) => combined(a, b, (x, y) => x ** y);

operators["aten.add.Tensor"] = add;
operators["aten.add.Scalar"] = add;
operators["aten.sub.Tensor"] = subtract;
operators["aten.sub.Scalar"] = subtract;
operators["aten.rsub.Scalar"] = (a, b, alpha) => combined(a, b, (x, y) => y - alpha * x);
operators["aten.mul.Tensor"] = multiply;
operators["aten.mul.Scalar"] = multiply;
operators["aten.div.Tensor"] = divide;
operators["aten.div.Scalar"] = divide;
operators["aten.pow.Tensor_Scalar"] = power;
operators["aten.pow.Tensor_Tensor"] = power;
operators["aten.maximum.default"] = (a, b) => combined(a, b, Math.max);
operators["aten.minimum.default"] = (a, b) => combined(a, b, Math.min);

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

operators["aten.neg.default"] = (a) => mapped(a, (x) => -x);
operators["aten.abs.default"] = (a) => mapped(a, Math.abs);
operators["aten.exp.default"] = (a) => mapped(a, Math.exp);
operators["aten.log.default"] = (a) => mapped(a, Math.log);
operators["aten.sin.default"] = (a) => mapped(a, Math.sin);
operators["aten.cos.default"] = (a) => mapped(a, Math.cos);
operators["aten.sqrt.default"] = (a) => mapped(a, Math.sqrt);
operators["aten.rsqrt.default"] = (a) => mapped(a, (x) => 1 / Math.sqrt(x));
operators["aten.reciprocal.default"] = (a) => mapped(a, (x) => 1 / x);
operators["aten.tanh.default"] = (a) => mapped(a, Math.tanh);
operators["aten.sigmoid.default"] = (a) => mapped(a, sigmoid);
operators["aten.relu.default"] = (a) => mapped(a, (x) => (x > 0 ? x : 0));
operators["aten.leaky_relu.default"] = (a, slope) => mapped(a, (x) => (x > 0 ? x : slope * x));
operators["aten.clamp.default"] = (a, low, high) =>
  mapped(a, (x) => Math.min(Math.max(x, low ?? -Infinity), high ?? Infinity));
