// Convolutions: the patches under the kernel become rows of a matrix, a tile of the image at a time.

const TILE = 1 << 15; // numbers of a tile: it stays in the processor's cache

// Convolve (B, C, H, W) with weights (O, C / groups, kh, kw); a transposed convolution is a convolution of the spread image.
function convolve(x, weight, bias, stride, padding, dilation, transposed, outputPadding, groups) {
  if (transposed) {
    const kernel = weight.shape.slice(2);
    const around = kernel.map((size, d) => dilation[d] * (size - 1) - padding[d]);
    return convolvePadded(spread(x, stride, around, outputPadding), turned(weight, groups), bias, [1, 1], dilation, groups);
  }
  return convolvePadded(spread(x, [1, 1], padding, [0, 0]), weight, bias, stride, dilation, groups);
}

operators["aten.convolution.default"] = convolve;

// Return an image with stride - 1 zeros between its pixels, a border, and more rows and columns at the end.
// A negative border cuts.
function spread(x, stride, border, more) {
  const [count, channels, height, width] = x.shape;
  const H = (height - 1) * stride[0] + 1 + 2 * border[0] + more[0];
  const W = (width - 1) * stride[1] + 1 + 2 * border[1] + more[1];
  if (Math.max(...stride) === 1 && [...border, ...more].every((size) => size === 0)) return x;
  const result = empty([count, channels, H, W]);
  for (let plane = 0; plane < count * channels; plane++) {
    for (let row = 0; row < height; row++) {
      const y = border[0] + row * stride[0];
      if (y < 0 || y >= H) continue;
      for (let column = 0; column < width; column++) {
        const at = border[1] + column * stride[1];
        if (at >= 0 && at < W) result.data[(plane * H + y) * W + at] = x.data[(plane * height + row) * width + column];
      }
    }
  }
  return result;
}

// Turn the weights (C, O / groups, kh, kw) of a transposed convolution into those of a convolution: mirrored,
// with inputs and outputs exchanged within each group.
function turned(weight, groups) {
  const [channels, outputs, height, width] = weight.shape;
  const inputs = channels / groups;
  const mirrored = operators["aten.flip.default"](weight, [2, 3]);
  const apart = tensor([groups, inputs, outputs, height, width], mirrored.data);
  const exchanged = operators["aten.permute.default"](apart, [0, 2, 1, 3, 4]);
  return tensor([groups * outputs, inputs, height, width], exchanged.data);
}

// Convolve an image that has its border already.
function convolvePadded(x, weight, bias, stride, dilation, groups) {
  const [count, channels, height, width] = x.shape;
  const [outputs, inputs, kh, kw] = weight.shape;
  const H = Math.floor((height - dilation[0] * (kh - 1) - 1) / stride[0]) + 1;
  const W = Math.floor((width - dilation[1] * (kw - 1) - 1) / stride[1]) + 1;
  const K = inputs * kh * kw;
  const perGroup = outputs / groups;
  const pixels = H * W;
  const tile = Math.max(2, Math.min(pixels, Math.floor(TILE / K)));
  const patches = new Float32Array(tile * K);
  const offsets = offsetsUnderKernel(inputs, kh, kw, height, width, dilation);
  const result = empty([count, outputs, H, W]);
  for (let image = 0; image < count; image++) {
    for (let group = 0; group < groups; group++) {
      const plane = (image * channels + group * inputs) * height * width;
      for (let first = 0; first < pixels; first += tile) {
        const size = Math.min(tile, pixels - first);
        for (let p = 0; p < size; p++) {
          const y = Math.floor((first + p) / W);
          const corner = plane + y * stride[0] * width + (first + p - y * W) * stride[1];
          for (let k = 0, to = p * K; k < K; k++, to++) patches[to] = x.data[corner + offsets[k]];
        }
        multiplyRows(
          weight.data, group * perGroup * K, patches, perGroup, size, K,
          bias === null ? null : bias.data, group * perGroup,
          result.data, (image * outputs + group * perGroup) * pixels + first, pixels,
        );
      }
    }
  }
  return result;
}

// Return where the pixels under a kernel are, counted from that of its first channel's corner.
function offsetsUnderKernel(inputs, kh, kw, height, width, dilation) {
  const offsets = new Int32Array(inputs * kh * kw);
  let k = 0;
  for (let channel = 0; channel < inputs; channel++) {
    for (let y = 0; y < kh; y++) {
      for (let x = 0; x < kw; x++) offsets[k++] = (channel * height + y * dilation[0]) * width + x * dilation[1];
    }
  }
  return offsets;
}
