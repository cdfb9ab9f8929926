import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { add, type Matrix, rowNorms, scaleRows, subtract } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { columnsOf, perChannel, weightMatrix } from "./convolution.ts";
import { frozenMatrix } from "./dense.ts";
import type { ForwardInput } from "./forward-input.ts";
import { zeros } from "./init.ts";
import type { FrozenSite, ParameterSpec } from "./method.ts";

/**
 * Norms of the rows of W as a matrix [out, columns] (`frozenMatrix`): where the magnitudes start, and what means "no adapter". At an embedding
 * these are norms of the table's columns.
 */
export const magnitudes = (site: SiteShape, frozen: FrozenSite): Float32Array =>
  Float32Array.from(rowNorms(frozenMatrix(site, frozen)));

/** The magnitude vector m [out]; at a convolution [1, out, 1, ...], as in peft. */
export const magnitudeSpec = (site: SiteShape): ParameterSpec => ({
  shape: site.kind === "conv" ? [1, site.outFeatures, ...site.weightShape.slice(2).map(() => 1)] : [site.outFeatures],
  init: zeros,
  neutral: (frozen) => magnitudes(site, frozen),
});

/**
 * |w_i + s (B·A)_i|² of every row: |w_i|² + 2 s B_i·(A·w_i) + s² B_i·(A·Aᵀ)·B_iᵀ, without a dense product. A and B are factors of any kind of
 * module: kernels are read as matrices, and a table [rows, width] as its transpose.
 */
function squaredNorms(g: Builder, at: ForwardInput, A: Value, B: Value, scale: number): Value {
  const { site } = at;
  const isTable = site.kind === "embedding";
  const w = isTable ? at.weight() : weightMatrix(g, at);
  const a = site.kind === "conv" ? g.reshape(A, [A.shape[0] ?? 0, columnsOf(site)]) : A; // [r, columns]
  const b = site.kind === "conv" ? g.reshape(B, [site.outFeatures, B.shape[1] ?? 0]) : B; // [out, r]
  const sumRows = (v: Value): Value => g.reduceSum(v, [1], false);
  const cross = sumRows(g.mul(g.fusedMatMul(w, a, { transA: isTable, transB: true, alpha: 2 * scale }), b));
  const gram = g.fusedMatMul(a, a, { transB: true, alpha: scale * scale }); // [r, r]
  const square = sumRows(g.mul(g.matMul(b, gram), b));
  return g.add(g.add(g.reduceSum(g.mul(w, w), [isTable ? 0 : 1], false), cross), square);
}

/**
 * DoRA on top of a LoRA update: W' = diag(m / n)·(W + s·B·A), n the norms of the rows of W + s·B·A, taken without gradient. Liu et al. 2024, arXiv
 * 2402.09353. As peft computes it: y + (m / n - 1)·x~·Wᵀ + (m / n)·s·x~·Aᵀ·Bᵀ with x~ the dropped-out input and the bias outside. Rows
 * are output features, output channels of a convolution, and columns of an embedding's table.
 * @param update s·x~·Aᵀ·Bᵀ
 * @param seen x~
 */
export function doraUpdate(
  g: Builder,
  at: ForwardInput,
  {
    A,
    B,
    magnitude,
    update,
    seen,
    scale,
  }: { A: Value; B: Value; magnitude: Value; update: Value; seen: Value; scale: number },
): Value {
  const { x, y, site, bias, base } = at;
  const channels = (v: Value): Value => perChannel(g, v, site.outFeatures, site);
  const norms = g.stopGradient(g.sqrt(squaredNorms(g, at, A, B, scale)));
  const ratio = g.div(channels(magnitude), channels(norms));
  const shift = bias();
  const result = seen.name === x.name ? y : base(seen);
  const plain = shift ? g.sub(result, channels(shift)) : result; // x~·Wᵀ
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
