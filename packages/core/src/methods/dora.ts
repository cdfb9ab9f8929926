import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { add, type Matrix, rowNorms, scaleRows, subtract } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { frozenMatrix } from "./dense.ts";
import { zeros } from "./init.ts";
import type { ForwardInput, FrozenSite, ParameterSpec } from "./method.ts";

/** Norms of W's rows: where the magnitudes start, and what means "no adapter". */
export const magnitudes = (site: SiteShape, frozen: FrozenSite): Float32Array =>
  Float32Array.from(rowNorms(frozenMatrix(site, frozen)));

/** The magnitude vector m [out]. */
export const magnitudeSpec = (site: SiteShape): ParameterSpec => ({
  shape: [site.outFeatures],
  init: zeros,
  neutral: (frozen) => magnitudes(site, frozen),
});

/**
 * DoRA on top of a LoRA update: W' = diag(m / n)·(W + s·B·A), n the norms of the rows of W + s·B·A, taken without gradient. Liu et al. 2024, arXiv
 * 2402.09353. As peft computes it: y + (m / n - 1)·x~·Wᵀ + (m / n)·s·x~·Aᵀ·Bᵀ with x~ the dropped-out input and the bias outside. n² needs no dense
 * product: |w_i|² + 2 s B_i·(A·w_i) + s² B_i·(A·Aᵀ)·B_iᵀ.
 * @param update s·x~·Aᵀ·Bᵀ
 * @param seen x~
 */
export function doraUpdate(
  g: Builder,
  { x, y, weight, bias, base }: ForwardInput,
  {
    A,
    B,
    magnitude,
    update,
    seen,
    scale,
  }: { A: Value; B: Value; magnitude: Value; update: Value; seen: Value; scale: number },
): Value {
  const w = weight();
  const sumRows = (v: Value): Value => g.reduceSum(v, [1], false);
  const cross = sumRows(g.mul(g.fusedMatMul(w, A, { transB: true, alpha: 2 * scale }), B));
  const gram = g.fusedMatMul(A, A, { transB: true, alpha: scale * scale }); // [r, r]
  const square = sumRows(g.mul(g.matMul(B, gram), B));
  const norms = g.stopGradient(g.sqrt(g.add(g.add(sumRows(g.mul(w, w)), cross), square)));
  const ratio = g.div(magnitude, norms); // [out]
  const shift = bias();
  const result = seen.name === x.name ? y : base(seen);
  const plain = shift ? g.sub(result, shift) : result; // x~·Wᵀ
  return g.add(y, g.add(g.mul(plain, g.sub(ratio, 1)), g.mul(update, ratio)));
}

/** W' - W for a finished update s·B·A. */
export function doraDelta(w: Matrix, update: Matrix, magnitude: ArrayLike<number>): Matrix {
  const sum = add(w, update);
  const norms = rowNorms(sum);
  return subtract(
    scaleRows(
      sum,
      norms.map((n, i) => (magnitude[i] as number) / n),
    ),
    w,
  );
}
