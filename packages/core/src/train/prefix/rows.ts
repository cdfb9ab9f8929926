import type { Value } from "../../onnx/ir.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";

/** How rows of a value [batch, outer..., tokens?, inner...] or [batch*tokens, inner...] lie in memory. */
export interface RowLayout {
  readonly name: string;
  /** Dimensions after the first; null where the tokens stand. */
  readonly dims: readonly (number | null)[];
  /** The first dimension is batch*tokens. */
  readonly isFlat: boolean;
  readonly outer: number;
  readonly inner: number;
  readonly hasTokens: boolean;
}

/**
 * @param value float32, with at most one dimension after the first that is no number: the tokens.
 * @param batch symbol of the batch.
 */
export function rowLayout({ name, shape }: Value, batch: string): RowLayout {
  const dims = shape.slice(1).map((dim) => (typeof dim === "number" ? dim : null));
  const isFlat = shape[0] !== batch;
  const at = dims.indexOf(null);
  const count = (list: readonly (number | null)[]): number => list.reduce<number>((n, dim) => n * (dim ?? 1), 1);
  const outer = at < 0 ? 1 : count(dims.slice(0, at));
  return { name, dims, isFlat, outer, inner: count(dims.slice(at + 1)), hasTokens: isFlat || at >= 0 };
}

/** Numbers of a row of `tokens` tokens. */
export const rowSize = ({ outer, inner, hasTokens }: RowLayout, tokens: number): number =>
  outer * (hasTokens ? tokens : 1) * inner;

/** A row's first `tokens` tokens out of a batch padded to `padded`. */
export function takeRow(
  layout: RowLayout,
  data: Float32Array,
  row: number,
  tokens: number,
  padded: number,
): Float32Array {
  const result = new Float32Array(rowSize(layout, tokens));
  copyTokens(layout, [data, row * rowSize(layout, padded), padded], [result, 0, tokens], tokens);
  return result;
}

/** A batch of rows, each with its first tokens filled and zeros behind them. */
export function stackRows(
  layout: RowLayout,
  rows: readonly { readonly data: Float32Array; readonly tokens: number }[],
  padded: number,
): RuntimeTensor {
  const data = new Float32Array(rows.length * rowSize(layout, padded));
  rows.forEach((row, i) => {
    copyTokens(layout, [row.data, 0, row.tokens], [data, i * rowSize(layout, padded), padded], row.tokens);
  });
  const first = layout.isFlat ? rows.length * padded : rows.length;
  return { type: "float32", dims: [first, ...layout.dims.map((dim) => dim ?? padded)], data };
}

/** An array, the place of a row in it, and how many tokens the row has room for. */
type Place = readonly [data: Float32Array, start: number, tokens: number];

function copyTokens({ outer, inner, hasTokens }: RowLayout, from: Place, to: Place, tokens: number): void {
  const [source, sourceStart, sourceTokens] = from;
  const [target, targetStart, targetTokens] = to;
  const length = (hasTokens ? tokens : 1) * inner;
  const strideOf = (room: number): number => (hasTokens ? room : 1) * inner;
  for (let o = 0; o < outer; o++) {
    const start = sourceStart + o * strideOf(sourceTokens);
    target.set(source.subarray(start, start + length), targetStart + o * strideOf(targetTokens));
  }
}
