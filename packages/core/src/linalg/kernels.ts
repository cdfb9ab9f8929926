/**
 * Loops over stretches of doubles: arrays of one arena, each with the index of the first element. Rows that are written must not overlap
 * others.
 */
export interface Kernels {
  /** x · y */
  dot(x: Float64Array, i: number, y: Float64Array, j: number, count: number): number;
  /** y += factor x */
  addScaled(factor: number, x: Float64Array, i: number, y: Float64Array, j: number, count: number): void;
  /** y += factor x, then y · z. */
  addScaledDot(
    factor: number,
    x: Float64Array,
    i: number,
    y: Float64Array,
    j: number,
    z: Float64Array,
    k: number,
    count: number,
  ): number;
  /** y -= a x, then z += b y. */
  chain(
    a: number,
    x: Float64Array,
    i: number,
    y: Float64Array,
    j: number,
    b: number,
    z: Float64Array,
    k: number,
    count: number,
  ): void;
  /** Rows p and q become c p + s q and c q - s p. */
  rotate(data: Float64Array, p: number, q: number, count: number, c: number, s: number): void;
  /** Rotation (c, s) of rows p and q, then (d, t) of rows q and r. */
  rotateTwice(
    data: Float64Array,
    p: number,
    q: number,
    r: number,
    count: number,
    c: number,
    s: number,
    d: number,
    t: number,
  ): void;
}

/** Dot product of two stretches of numbers; four sums, so that additions do not wait for each other. */
function dot(x: Float64Array, i: number, y: Float64Array, j: number, count: number): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  let k = 0;
  for (; k + 3 < count; k += 4) {
    a += (x[i + k] as number) * (y[j + k] as number);
    b += (x[i + k + 1] as number) * (y[j + k + 1] as number);
    c += (x[i + k + 2] as number) * (y[j + k + 2] as number);
    d += (x[i + k + 3] as number) * (y[j + k + 3] as number);
  }
  for (; k < count; k++) a += (x[i + k] as number) * (y[j + k] as number);
  return a + b + (c + d);
}

/** y += factor * x. */
function addScaled(factor: number, x: Float64Array, i: number, y: Float64Array, j: number, count: number): void {
  for (let k = 0; k < count; k++) y[j + k] = (y[j + k] as number) + factor * (x[i + k] as number);
}

/** The loops in JavaScript: the reference, and what runs where WebAssembly has no SIMD. */
export const plainKernels: Kernels = {
  dot,
  addScaled,
  addScaledDot(factor, x, i, y, j, z, k, count) {
    let sum = 0;
    for (let at = 0; at < count; at++) {
      const value = (y[j + at] as number) + factor * (x[i + at] as number);
      y[j + at] = value;
      sum += value * (z[k + at] as number);
    }
    return sum;
  },
  chain(a, x, i, y, j, b, z, k, count) {
    for (let at = 0; at < count; at++) {
      const value = (y[j + at] as number) - a * (x[i + at] as number);
      y[j + at] = value;
      z[k + at] = (z[k + at] as number) + b * value;
    }
  },
  rotate(data, p, q, count, c, s) {
    for (let at = 0; at < count; at++) {
      const [x, y] = [data[p + at] as number, data[q + at] as number];
      data[p + at] = c * x + s * y;
      data[q + at] = c * y - s * x;
    }
  },
  rotateTwice(data, p, q, r, count, c, s, d, t) {
    for (let at = 0; at < count; at++) {
      const [x, y, z] = [data[p + at] as number, data[q + at] as number, data[r + at] as number];
      const middle = c * y - s * x;
      data[p + at] = c * x + s * y;
      data[q + at] = d * middle + t * z;
      data[r + at] = d * z - t * middle;
    }
  },
};
