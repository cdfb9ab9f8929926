import { sizeOf, subDims } from "../onnx/dims.ts";
import { at, intAttribute } from "../onnx/infer/context.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { toNumbers } from "../onnx/tensor.ts";
import { positiveAxis } from "./axes.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";
import { scatterAlong } from "./scatter.ts";
import { padAxis } from "./shape.ts";

/** The index that a Gather with one known index picks, else null. */
function fixedIndex(c: RuleContext): number | null {
  const known = c.g.intsOf(inputAt(c, 1));
  const [index] = known ?? [];
  return known?.length === 1 && typeof index === "number" ? index : null;
}

/**
 * The inverse of a constant list of indices that exchanges the entries of an axis of `size`: a gather by it is the gradient, and needs
 * no scattering. null for other indices.
 */
function inverseOrder({ g }: RuleContext, indices: Value, size: Dim): Value | null {
  const constant = indices.shape.length === 1 ? g.tensorOf(indices.name) : null;
  if (!constant || indices.shape[0] !== size) return null;
  const inverse = new Array<number>(Number(size)).fill(-1);
  toNumbers(constant).forEach((from, to) => {
    if (from >= 0 && from < inverse.length) inverse[from] = to;
  });
  return inverse.includes(-1) ? null : g.constant("int64", inverse);
}

/** One-hot columns times the updates, for opsets whose ScatterElements cannot add. Axes other than `axis` may be cut short. */
function gatherElementsByProduct(c: RuleContext, data: Value, indices: Value, dY: Value, axis: number): Value {
  const { g } = c;
  const hot = g.cast(g.oneHot(indices, at(data.shape, axis), [0, 1], axis), dY.type);
  let dX = g.reduceSum(g.mul(hot, g.unsqueeze(dY, [axis])), [axis + 1], false);
  data.shape.forEach((size, i) => {
    if (i !== axis) dX = padAxis(c, dX, i, 0, subDims(size, at(dX.shape, i)));
  });
  return dX;
}

/** Index tuples [..., k] into the axes after the batch axes as single row numbers [...] of all axes up to there. */
export function rowNumbers(c: RuleContext, data: Value, indices: Value, batch: number, depth: number): Value {
  const { g } = c;
  const size = (from: number, to: number): Value => g.shapeTensor([sizeOf(data.shape.slice(from, to))]);
  let rows: Value | null = null;
  for (let j = 0; j < depth; j++) {
    const raw = g.gather(indices, g.constant("int64", j), -1);
    const index = g.where(g.less(raw, 0), g.add(raw, size(batch + j, batch + j + 1)), raw);
    const term = g.mul(index, size(batch + j + 1, batch + depth));
    rows = rows ? g.add(rows, term) : term;
  }
  const inner = rows ?? g.ints([0]);
  if (batch === 0) return g.reshape(inner, indices.shape.slice(0, -1));
  const limit = g.squeeze(size(0, batch), [0]);
  const [all] = g.op("Range", [g.constant("int64", 0), limit, g.constant("int64", 1)]);
  const dims = [...indices.shape.slice(0, batch), ...indices.shape.slice(batch, -1).map(() => 1)];
  const offset = g.mul(g.reshape(all as Value, dims), size(batch, batch + depth));
  return g.add(inner, offset);
}

export const zerosLike = (c: RuleContext, x: Value): Value => c.g.filled(x.shape, 0, x.type, x);

/** Operators that pick entries by index. */
export const indexing = {
  /**
   * Y [before, ...Indices, after] = Data [before, n, after] at Indices along `axis`: dData = zeros with dY added at the
   * indices, repeated ones summed. One constant index (a CLS token) needs Pad only, a constant permutation a Gather by its
   * inverse. Saves Indices.
   */
  Gather: rule([1, 24], (c) => {
    const { g } = c;
    const [data, indices, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const axis = positiveAxis(intAttribute(c.node, "axis", 0), data.shape.length);
    const index = fixedIndex(c);
    if (index !== null) {
      const size = at(data.shape, axis);
      const [before, after] = index < 0 ? [subDims(size, -index), -index - 1] : [index, subDims(size, index + 1)];
      return [padAxis(c, indices.shape.length === 0 ? g.unsqueeze(dY, [axis]) : dY, axis, before, after)];
    }
    const order = inverseOrder(c, indices, at(data.shape, axis));
    if (order) return [g.gather(dY, order, axis)];
    return [scatterAlong(g, data.shape, indices, dY, axis)];
  }),
  /** Y = Data[..., Indices, ...] entry by entry along `axis`: dData = zeros with dY added at Indices. Saves Indices. */
  GatherElements: rule([11, 24], (c) => {
    const { g } = c;
    const [data, indices, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const axis = positiveAxis(intAttribute(c.node, "axis", 0), data.shape.length);
    if (g.opset < 16) return [gatherElementsByProduct(c, data, indices, dY, axis)];
    return [g.scatterElements(zerosLike(c, data), indices, dY, axis, "add")];
  }),
  /** Y [batch, ..., rest] = Data [batch, d1..dk, rest] at tuples Indices [batch, ..., k]: dData as for Gather of rows d1*..*dk. */
  GatherND: rule([11, 24], (c) => {
    const { g } = c;
    const [data, indices] = [inputAt(c, 0), inputAt(c, 1)];
    const batch = intAttribute(c.node, "batch_dims", 0);
    const depth = Number(at(indices.shape, -1));
    const rows = rowNumbers(c, data, indices, batch, depth);
    const merged = [sizeOf(data.shape.slice(0, batch + depth)), ...data.shape.slice(batch + depth)];
    return [g.reshapeLike(scatterAlong(g, merged, rows, dOutput(c), 0), data)];
  }),
  /** Values are the k largest (or smallest) entries along `axis`: dX = zeros with dValues at their indices. */
  TopK: rule([10, 24], (c) => {
    const x = inputAt(c, 0);
    const dValues = c.dOutputs[0];
    if (!dValues) return [null];
    const axis = intAttribute(c.node, "axis", -1);
    const inputs = [zerosLike(c, x), c.g.extraOutput(c.node, 1), dValues];
    return [c.g.op("ScatterElements", inputs, { axis })[0] as Value];
  }),
};
