// Operators that change an image's size.

// Return [first pixel, second pixel, weight of the second] for each of `size` places along a side of `length` pixels.
function linearPlaces(length, size, scale, corners) {
  const step = corners ? (length - 1) / Math.max(1, size - 1) : scale ? 1 / scale : length / size;
  return Array.from({ length: size }, (_, i) => {
    const place = corners ? i * step : Math.max(0, (i + 0.5) * step - 0.5);
    const first = Math.min(Math.floor(place), length - 1);
    return [first, Math.min(first + 1, length - 1), place - first];
  });
}

const resized = (x, size, scales) => size ?? [0, 1].map((d) => Math.floor(x.shape[d + 2] * scales[d]));

operators["aten.upsample_bilinear2d.vec"] = (x, size, corners, scales) => {
  const [count, channels, height, width] = x.shape;
  const [H, W] = resized(x, size, scales);
  const rows = linearPlaces(height, H, scales?.[0], corners);
  const columns = linearPlaces(width, W, scales?.[1], corners);
  const result = empty([count, channels, H, W]);
  let to = 0;
  for (let plane = 0; plane < count * channels; plane++) {
    for (const [top, bottom, down] of rows) {
      const [above, below] = [top, bottom].map((row) => (plane * height + row) * width);
      for (const [left, right, across] of columns) {
        const first = (1 - across) * x.data[above + left] + across * x.data[above + right];
        const second = (1 - across) * x.data[below + left] + across * x.data[below + right];
        result.data[to++] = (1 - down) * first + down * second;
      }
    }
  }
  return result;
};

operators["aten.upsample_nearest2d.vec"] = (x, size, scales) => {
  const [H, W] = resized(x, size, scales);
  // Like torch in float32: a scale decides the places even where the size was rounded down.
  const places = (d, length) => {
    const step = Math.fround(scales ? 1 / scales[d - 2] : x.shape[d] / length);
    const place = (i) => Math.min(Math.floor(Math.fround(i * step)), x.shape[d] - 1);
    return tensor([length], Array.from({ length }, (_, i) => place(i)));
  };
  return take(take(x, 2, places(2, H)), 3, places(3, W));
};

// Average windows that lie inside the image; padding, and windows over its edge, are refused.
operators["aten.avg_pool2d.default"] = (x, kernel, stride, padding, ceil, _, divisor) => {
  if (ceil || padding.some((pad) => pad > 0)) throw new Error("aten.avg_pool2d with padding or ceil_mode");
  const [kh, kw] = kernel;
  const window = empty([x.shape[1], 1, kh, kw]);
  window.data.fill(1 / (divisor ?? kh * kw));
  return convolvePadded(x, window, null, stride.length ? stride : kernel, [1, 1], x.shape[1]);
};
