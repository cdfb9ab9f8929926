import type { AttributeInput } from "../graph/attributes.ts";
import { sizeOf } from "../onnx/dims.ts";
import { at, intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import { extentOf, windowsOf } from "../onnx/infer/windows.ts";
import type { Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";
import { inputGradient } from "./convolution-parts.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { signOf } from "./masks.ts";
import { type RuleContext, rule } from "./rule.ts";
import { alongAxis, identityMatrix } from "./separable.ts";

const windowLists = ["kernel_shape", "strides", "dilations"] as const;
const windowFlags = ["auto_pad", "ceil_mode", "count_include_pad"] as const;

/** The attributes of a pool over spatial axis `i` alone. */
function alongAttributes(c: RuleContext, i: number): Record<string, AttributeInput> {
  const result: Record<string, AttributeInput> = {};
  for (const name of windowLists) {
    const list = intsAttribute(c.node, name);
    if (list && list.length > 0) result[name] = [at(list, i)];
  }
  const pads = intsAttribute(c.node, "pads");
  if (pads && pads.length > 0) result["pads"] = [at(pads, i), at(pads, pads.length / 2 + i)];
  for (const name of windowFlags) {
    const flag = c.node.attributes[name];
    if (flag) result[name] = flag;
  }
  return result;
}

/**
 * The transpose of a pool that sums or averages. Where every window has the same shares it is a depth-wise convolution's
 * input gradient: for 3x3 over 64 channels of 256x256 a tenth of the time of the matrices, 0.5 for 56x56. Else (padding
 * that does not count, windows that reach over the end, SAME_*) a matrix for every spatial axis, made by `op` over the
 * rows of the identity, since shares and counts of a window are products over the axes.
 * @param share of every entry of a window; null where windows differ
 */
function spreadWindows(
  c: RuleContext,
  op: string,
  dY: Value,
  share: number | null,
  more: Record<string, AttributeInput> = {},
): Value {
  const { g } = c;
  const x = inputAt(c, 0);
  const kernel = intsAttribute(c.node, "kernel_shape") ?? [];
  const windows = windowsOf(c.node, kernel);
  const channels = x.shape[1];
  const isPlain = windows.same === "none" && intAttribute(c.node, "ceil_mode", 0) === 0;
  if (share !== null && isPlain && typeof channels === "number") {
    const dims = [channels, 1, ...kernel];
    const ones = g.filled(dims, share, x.type);
    return inputGradient(g, { windows, group: channels }, dY, ones, x);
  }
  let result = dY;
  for (let i = kernel.length - 1; i >= 0; i--) {
    if (kernel[i] === 1 && at(windows.strides, i) === 1) continue;
    const rows = g.unsqueeze(identityMatrix(g, at(x.shape, i + 2), x.type), [0]); // [1, n, n]
    const [matrix] = g.op(op, [rows], { ...alongAttributes(c, i), ...more });
    result = alongAxis(g, result, g.squeeze(matrix as Value, [0]), i + 2);
  }
  return g.reshapeLike(result, x);
}

/** What an entry contributes to its window's mean, where that is the same everywhere. */
function averageShare(c: RuleContext): number | null {
  const isPadded = intsAttribute(c.node, "pads")?.some((p) => p > 0) ?? false;
  if (isPadded && intAttribute(c.node, "count_include_pad", 0) === 0) return null;
  return 1 / (intsAttribute(c.node, "kernel_shape") ?? []).reduce((a, b) => a * b, 1);
}

/** 1 / Y^(p - 1), and 0 where a window holds nothing but zeros. */
function inversePower(c: RuleContext, y: Value, p: number): Value {
  const { g } = c;
  return g.where(g.greater(y, 0), p === 2 ? g.reciprocal(y) : g.pow(y, 1 - p), g.constant(y.type, 0));
}

/** dX of (sum |X|^p)^(1/p) from `spread`, what the windows of dY Y^(1-p) hand back: |X|^(p-1) sign(X) spread(dY Y^(1-p)). */
function lpGradient(c: RuleContext, spread: (dY: Value) => Value): Value {
  const { g } = c;
  const [x, y, dY] = [inputAt(c, 0), outputAt(c), dOutput(c)];
  const p = intAttribute(c.node, "p", 2);
  if (p === 1) return g.mul(spread(dY), signOf(g, x));
  const back = spread(g.mul(dY, inversePower(c, y, p)));
  if (p === 2) return g.mul(back, x);
  return g.mul(back, g.mul(signOf(g, x), g.pow(g.abs(x), p - 1)));
}

/** First opset whose ScatterElements can add. */
const ADDING_OPSET = 16;

/**
 * Indices count entries of the whole of X. Where windows overlap, one entry can win several: ScatterElements adds, and
 * where it cannot yet, windows are placed in turns of which none overlap, every m-th along an axis with m = extent / stride
 * rounded up.
 */
function placeWinners(c: RuleContext, indices: Value, dY: Value): Value {
  const { g } = c;
  const x = inputAt(c, 0);
  const zeros = (): Value => g.filled([sizeOf(x.shape)], 0, x.type);
  const flat = (v: Value): Value => g.op("Reshape", [v, g.ints([-1])])[0] as Value;
  if (g.opset >= ADDING_OPSET) {
    return g.reshapeLike(g.scatterElements(zeros(), flat(indices), flat(dY), 0, "add"), x);
  }
  const windows = windowsOf(c.node, intsAttribute(c.node, "kernel_shape") ?? []);
  const turns = windows.strides.map((stride, i) => Math.ceil(Number(extentOf(windows, i)) / stride));
  const axes = turns.map((_, i) => i + 2);
  const starts = turns.reduce<number[][]>((all, m) => all.flatMap((s) => upTo(m).map((i) => [...s, i])), [[]]);
  const ends = axes.map(() => 2 ** 31 - 1);
  const parts = starts.map((start) => {
    const turn = (v: Value): Value => flat(g.slice(v, start, ends, axes, turns));
    return g.scatterElements(zeros(), turn(indices), turn(dY), 0);
  });
  return g.reshapeLike(
    parts.reduce((a, b) => g.add(a, b)),
    x,
  );
}

/** Where the maxima are. Indices in column-major order, which storage_order asks for, are made again in the usual one. */
function winners(c: RuleContext): Value {
  if (intAttribute(c.node, "storage_order", 0) === 0) return c.g.extraOutput(c.node, 1);
  const attributes = { ...c.node.attributes, storage_order: 0 };
  return c.g.op("MaxPool", [inputAt(c, 0)], attributes, { count: 2 })[1] as Value;
}

/** Pools over the spatial axes of x [batch, channels, ...]. */
export const pooling = {
  /**
   * Y = the maximum of every window: dX = dY at the entry that won, the first of equals (as in PyTorch), added up over the
   * windows it won. Saves Indices, which the operator hands out, and not X. With them ONNX Runtime takes a slower kernel
   * (3x3 with stride 2: 10 times the forward without); comparing Y with k slices of X costs as much and saves both.
   */
  MaxPool: rule([11, 24], (c) => (c.dOutputs[0] ? [placeWinners(c, winners(c), c.dOutputs[0])] : [null])),
  /** Y = the mean of every window, padding counted or not: dX = the transposed averaging of dY: {@link spreadWindows}. */
  AveragePool: rule([11, 24], (c) => [spreadWindows(c, "AveragePool", dOutput(c), averageShare(c))]),
  /**
   * Y = (sum of |X|^p over every window)^(1/p): dX = sign(X) |X|^(p-1) * (transposed window sum of dY Y^(1-p)); zero where
   * Y is. LpPool with p = 1 is the sum. Saves X and Y.
   */
  LpPool: rule([11, 24], (c) => [lpGradient(c, (dY) => spreadWindows(c, "LpPool", dY, 1, { p: 1 }))]),
  /** Y = the mean over all places: dX = dY / places, repeated. */
  GlobalAveragePool: rule([8, 24], (c) => {
    const { g } = c;
    const x = inputAt(c, 0);
    const places = sizeOf(x.shape.slice(2));
    const count = typeof places === "number" ? places : g.cast(g.squeeze(g.shapeTensor([places]), [0]), x.type);
    return [g.expand(g.div(dOutput(c), count), x.shape, x)];
  }),
  /** Y = the maximum over all places: dX = dY at the first of the largest entries. Saves X. */
  GlobalMaxPool: rule([11, 24], (c) => {
    const { g } = c;
    const [x, dY] = [inputAt(c, 0), dOutput(c)];
    const rows = (v: Value): Value => g.op("Reshape", [v, g.ints([0, 0, -1])])[0] as Value;
    const flat = rows(x);
    const [first] = g.op("ArgMax", [flat], { axis: 2, keepdims: 1 });
    const zeros = g.filled(flat.shape, 0, x.type, flat);
    return [g.reshapeLike(g.scatterElements(zeros, first as Value, rows(dY), 2), x)];
  }),
  /**
   * Y = (sum of |X|^p over all places)^(1/p): dX = sign(X) |X|^(p-1) dY Y^(1-p); zero where Y is. Saves X and Y.
   * ONNX Runtime 1.30 has no kernel for the version of opset 22.
   */
  GlobalLpPool: rule([9, 21], (c) => [lpGradient(c, (dY) => dY)]),
};
