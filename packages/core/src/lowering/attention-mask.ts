import { mulDims } from "../onnx/dims.ts";
import type { ElementType } from "../onnx/element-type.ts";
import type { Value } from "../onnx/ir.ts";
import { type ExpansionContext, refuse } from "./expansion.ts";
import { axisSize, positionsOf, range } from "./heads.ts";

/** The most negative finite number of a type: after the softmax exactly 0. */
const lowestOf = (type: ElementType): number => (type === "float16" ? -65504 : -3.4028234663852886e38);

/** 0 where the condition holds, `filter` elsewhere. */
export function filterWhere({ g }: ExpansionContext, condition: Value, filter: number, type: ElementType): Value {
  return g.mul(g.sub(g.cast(condition, type), 1), -filter);
}

/**
 * A mask input in all its forms as a summand of the scores that broadcasts to [batch, heads, tokens, keys]:
 *   [batch] keys before the number count; [2 batch] ends, then starts of what counts; [3 batch + 2] begins with lengths;
 *   [batch, keys] and [batch, tokens, keys] positive where it counts; [batch, 1, all, all] the same over a longer square, of
 *   which the last `tokens` rows before `keys` and the first `keys` columns are used.
 */
export function paddingBias(c: ExpansionContext, mask: Value, q: Value, k: Value, filter: number): Value {
  const { g } = c;
  const rank = mask.shape.length;
  if (rank === 2) return g.unsqueeze(filterWhere(c, g.greater(mask, 0), filter, q.type), [1, 2]);
  if (rank === 3) return g.unsqueeze(filterWhere(c, g.greater(mask, 0), filter, q.type), [1]);
  if (rank === 4) return filterWhere(c, g.greater(squareWindow(c, mask, q, k), 0), filter, q.type);
  if (rank !== 1) return refuse(c, `a mask of rank ${rank}`);
  const [batch = 1, length] = [q.shape[0], mask.shape[0]];
  const columns = g.cast(positionsOf(g, k, 2), mask.type);
  const size = g.unsqueeze(axisSize(g, q, 0), [0]);
  const part = (from: Value, to: Value): Value =>
    g.unsqueeze(g.op("Slice", [mask, from, to, g.ints([0])])[0] as Value, [1]);
  const isLengths = length === batch || isThreefold(mask, batch);
  const isBounds = length === mulDims(2, batch);
  if (!isLengths && !isBounds) return refuse(c, `a mask of ${length} numbers for a batch of ${batch}`);
  let counts = g.less(columns, part(g.ints([0]), size));
  if (isBounds) counts = g.and(counts, g.not(g.less(columns, part(size, g.add(size, size)))));
  return g.unsqueeze(filterWhere(c, counts, filter, q.type), [1, 2]);
}

const isThreefold = (mask: Value, batch: number | string): boolean => {
  const [length] = mask.shape;
  return typeof length === "number" && typeof batch === "number" && length === 3 * batch + 2;
};

/** Rows keys - tokens to keys and columns 0 to keys of a square mask. */
function squareWindow({ g }: ExpansionContext, mask: Value, q: Value, k: Value): Value {
  const [tokens, keys] = [g.unsqueeze(axisSize(g, q, 2), [0]), g.unsqueeze(axisSize(g, k, 2), [0])];
  const rows = g.op("Slice", [mask, g.sub(keys, tokens), keys, g.ints([2])])[0] as Value;
  return g.op("Slice", [rows, g.ints([0]), keys, g.ints([3])])[0] as Value;
}

/**
 * Summand [tokens, keys] that hides later keys: token i stands at position keys - tokens + i. With a window it also hides
 * keys that are `window` positions and more behind.
 */
export function causalBias({ g }: ExpansionContext, q: Value, k: Value, window = 0): Value {
  const keys = axisSize(g, k, 2);
  const rows = g.unsqueeze(range(g, g.sub(keys, axisSize(g, q, 2)), keys), [1]);
  const columns = g.unsqueeze(positionsOf(g, k, 2), [0]);
  let hidden = g.greater(columns, rows);
  if (window > 0) hidden = g.or(hidden, g.less(columns, g.sub(rows, window - 1)));
  return g.mul(g.cast(hidden, q.type), lowestOf(q.type));
}
