// Matrix products. Nearly all of a generator's time is spent in `multiplyRows`.

// Write result[m][n] = Σ_k left[m][k] · right[n][k] + bias[m]: both sides have their sum along contiguous rows.
//
// A block of 4 x 2 results is summed in eight local variables, which the browser keeps in registers: six loads serve
// eight products. Sums are in float64, as JavaScript's numbers are.
function multiplyRows(left, leftStart, right, M, N, K, bias, biasStart, result, resultStart, rowLength) {
  for (let m = 0; m < M; m += 4) {
    const rows = Math.min(4, M - m);
    const l0 = leftStart + m * K;
    const l1 = rows > 1 ? l0 + K : l0;
    const l2 = rows > 2 ? l1 + K : l0;
    const l3 = rows > 3 ? l2 + K : l0;
    const c0 = bias === null ? 0 : bias[biasStart + m];
    const c1 = bias === null || rows < 2 ? 0 : bias[biasStart + m + 1];
    const c2 = bias === null || rows < 3 ? 0 : bias[biasStart + m + 2];
    const c3 = bias === null || rows < 4 ? 0 : bias[biasStart + m + 3];
    for (let n = 0; n < N; n += 2) {
      const r0 = n * K;
      const r1 = n + 1 < N ? r0 + K : r0;
      let s00 = 0, s01 = 0, s10 = 0, s11 = 0, s20 = 0, s21 = 0, s30 = 0, s31 = 0;
      for (let k = 0; k < K; k++) {
        const x = right[r0 + k];
        const y = right[r1 + k];
        const a0 = left[l0 + k];
        const a1 = left[l1 + k];
        const a2 = left[l2 + k];
        const a3 = left[l3 + k];
        s00 += a0 * x; s01 += a0 * y;
        s10 += a1 * x; s11 += a1 * y;
        s20 += a2 * x; s21 += a2 * y;
        s30 += a3 * x; s31 += a3 * y;
      }
      const to = resultStart + m * rowLength + n;
      result[to] = s00 + c0;
      if (rows > 1) result[to + rowLength] = s10 + c1;
      if (rows > 2) result[to + 2 * rowLength] = s20 + c2;
      if (rows > 3) result[to + 3 * rowLength] = s30 + c3;
      if (n + 1 === N) continue;
      result[to + 1] = s01 + c0;
      if (rows > 1) result[to + rowLength + 1] = s11 + c1;
      if (rows > 2) result[to + 2 * rowLength + 1] = s21 + c2;
      if (rows > 3) result[to + 3 * rowLength + 1] = s31 + c3;
    }
  }
}

// (N, K) x (K, M) -> (N, M).
function matrixProduct(a, b) {
  const [N, K] = a.shape;
  const M = b.shape[1];
  const result = empty([N, M]);
  for (let n = 0; n < N; n++) {
    const sums = new Float64Array(M);
    for (let k = 0; k < K; k++) {
      const x = a.data[n * K + k];
      if (x === 0) continue;
      for (let m = 0, from = k * M; m < M; m++, from++) sums[m] += x * b.data[from];
    }
    result.data.set(sums, n * M);
  }
  return result;
}

operators["aten.mm.default"] = matrixProduct;
operators["aten.addmm.default"] = (bias, a, b, beta, alpha) => {
  const scaled = alpha === 1 ? matrixProduct(a, b) : multiply(matrixProduct(a, b), alpha);
  return add(scaled, bias, beta);
};

operators["aten.bmm.default"] = (a, b) => {
  const parts = Array.from({ length: a.shape[0] }, (_, i) => {
    const [x, y] = [a, b].map((t) => operators["aten.select.int"](t, 0, i));
    return operators["aten.unsqueeze.default"](matrixProduct(x, y), 0);
  });
  return concatenate(parts, 0);
};
