import { PeftError } from "../errors.ts";
import { addDims, isNeverNegative, subDims } from "../onnx/dims.ts";
import { at, intAttribute, intsAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Dim, Shape, Value } from "../onnx/ir.ts";
import { invertPermutation, listAt, positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";
import { placeAlong, scatterAlong } from "./scatter.ts";

/** dX = dY in X's shape. */
const reshapeBack = (c: RuleContext): readonly [Value] => [c.g.reshapeLike(dOutput(c), inputAt(c, 0))];

/** Axes of length 1 that Squeeze removed or Unsqueeze added, positive; `shape` has them. Null: not all are known. */
function unitAxes(c: RuleContext, shape: Shape): number[] | null {
  const given = listAt(c, "axes", 1)?.map((a) => positiveAxis(a, shape.length)) ?? upTo(shape.length);
  const units = given.filter((a) => shape[a] === 1).sort((a, b) => a - b);
  return shape.length - units.length === Math.min(inputAt(c, 0).shape.length, outputAt(c).shape.length) ? units : null;
}

/** Zero padding of one axis; sizes are numbers or symbols. */
export function padAxis(c: RuleContext, x: Value, axis: number, before: Dim, after: Dim): Value {
  if (before === 0 && after === 0) return x;
  const rank = x.shape.length;
  const place = (size: Dim): Dim[] => upTo(rank).map((i) => (i === axis ? size : 0));
  return c.g.op("Pad", [x, c.g.shapeTensor([...place(before), ...place(after)])])[0] as Value;
}

/** One sliced axis of a Slice node. */
interface Cut {
  readonly axis: number;
  /** First index; null when it is computed at run time. */
  readonly start: Dim | null;
  readonly end: Dim | null;
  readonly step: number;
}

function cutsOf(c: RuleContext): Cut[] {
  const { g } = c;
  const x = inputAt(c, 0);
  const known = (attribute: string, index: number): readonly (Dim | null)[] | null => {
    const value = c.inputs[index];
    return intsAttribute(c.node, attribute) ?? (value ? g.intsOf(value) : null);
  };
  const steps = listAt(c, "steps", 4);
  const listed = listAt(c, "axes", 3);
  const [starts, ends] = [known("starts", 1), known("ends", 2)];
  const count = listed?.length ?? starts?.length ?? ends?.length ?? c.inputs[1]?.shape[0];
  if (typeof count !== "number") {
    throw new PeftError("DYNAMIC_AXES", `Expected a known number of axes in Slice "${c.node.name}".`);
  }
  return upTo(count).map((i) => ({
    axis: positiveAxis(listed?.[i] ?? i, x.shape.length),
    start: starts?.[i] ?? null,
    end: ends?.[i] ?? null,
    step: steps?.[i] ?? 1,
  }));
}

/** Where a slice with step 1 begins, as a size; null when that is known at run time only: -length counts from the end. */
function firstIndex(start: Dim | null, size: Dim): Dim | null {
  if (start === null || (typeof start === "string" && !isNeverNegative(start))) return null;
  if (typeof start === "string") return start;
  if (typeof size === "number") return Math.min(Math.max(start < 0 ? start + size : start, 0), size);
  return start < 0 ? addDims(size, start) : start;
}

/** 0..size-1. */
function indicesUpTo(c: RuleContext, size: Dim): Value {
  const { g } = c;
  const limit = g.squeeze(g.shapeTensor([size]), [0]);
  return g.op("Range", [g.constant("int64", 0), limit, g.constant("int64", 1)])[0] as Value;
}

/** The indices that a cut picks, by slicing 0..size-1 in the same way. */
function pickedIndices(c: RuleContext, cut: Cut, position: number, size: Dim): Value {
  const { g } = c;
  const bound = (index: number, fixed: Dim | null): Value => {
    const list = c.inputs[index];
    if (list) return g.slice(list, [position], [position + 1], [0]);
    return g.ints([Number(fixed)]);
  };
  const inputs = [indicesUpTo(c, size), bound(1, cut.start), bound(2, cut.end), g.ints([0]), g.ints([cut.step])];
  return g.op("Slice", inputs)[0] as Value;
}

function sliceBackward(c: RuleContext): readonly [Value] {
  const [x, y] = [inputAt(c, 0), outputAt(c)];
  const cuts = cutsOf(c);
  let dX = dOutput(c);
  cuts.forEach((cut, position) => {
    const size = at(x.shape, cut.axis);
    const start = cut.step === 1 ? firstIndex(cut.start, size) : null;
    if (start !== null) {
      dX = padAxis(c, dX, cut.axis, start, subDims(subDims(size, start), at(y.shape, cut.axis)));
    } else {
      const dims = dX.shape.map((d, i) => (i === cut.axis ? size : d));
      dX = placeAlong(c.g, dims, pickedIndices(c, cut, position, size), dX, cut.axis);
    }
  });
  return [dX];
}

function tileBackward(c: RuleContext): readonly [Value] {
  const { g } = c;
  const [x, repeats, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
  const rank = x.shape.length;
  const known = g.intsOf(repeats);
  const pairs = g.concat([g.unsqueeze(repeats, [1]), g.unsqueeze(g.shapeTensor(x.shape, x), [1])], 1);
  const target = known ? g.shapeTensor(upTo(rank).flatMap((i) => [at(known, i), at(x.shape, i)])) : null;
  const [parts] = g.op("Reshape", [dY, target ?? (g.op("Reshape", [pairs, g.ints([2 * rank])])[0] as Value)]);
  return [
    g.reduceSum(
      parts as Value,
      upTo(rank).map((i) => 2 * i),
      false,
    ),
  ];
}

function padBackward(c: RuleContext): readonly (Value | null)[] {
  const { g } = c;
  const [x, pads, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
  const mode = stringAttribute(c.node, "mode", "constant");
  const rank = x.shape.length;
  if (mode === "constant") {
    const dX = g.op("Pad", [dY, g.mul(pads, -1), null, c.inputs[3] ?? null])[0] as Value;
    const total = (v: Value): Value => g.reduceSum(v, upTo(rank), false);
    return [dX, null, c.needs[2] ? g.sub(total(dY), total(dX)) : null];
  }
  const axes = listAt(c, "axes", 3)?.map((a) => positiveAxis(a, rank)) ?? upTo(rank);
  let dX = dY;
  axes.forEach((axis, i) => {
    const amounts = g.gather(pads, g.ints([i, i + axes.length]));
    if (g.intsOf(amounts)?.every((d) => d === 0)) return;
    const size = at(x.shape, axis);
    const [picked] = g.op("Pad", [indicesUpTo(c, size), amounts], { mode });
    const dims = dX.shape.map((d, j) => (j === axis ? size : d));
    dX = scatterAlong(g, dims, picked as Value, dX, axis);
  });
  return [dX];
}

/** Operators that move data without changing it. */
export const shape = {
  Reshape: rule([1, 24], reshapeBack),
  Flatten: rule([1, 24], reshapeBack),
  /** Y = X with axes in the order `perm`: dX = dY in the inverse order. */
  Transpose: rule([1, 24], (c) => {
    const rank = inputAt(c, 0).shape.length;
    const perm = intsAttribute(c.node, "perm") ?? upTo(rank).reverse();
    return [c.g.transpose(dOutput(c), invertPermutation(perm))];
  }),
  /** Axes of length 1 go away: dX has them again. */
  Squeeze: rule([1, 24], (c) => {
    const axes = unitAxes(c, inputAt(c, 0).shape);
    return axes ? [c.g.unsqueeze(dOutput(c), axes)] : reshapeBack(c);
  }),
  /** Axes of length 1 are added: dX lacks them. */
  Unsqueeze: rule([1, 24], (c) => {
    const axes = unitAxes(c, outputAt(c).shape);
    return axes ? [c.g.squeeze(dOutput(c), axes)] : reshapeBack(c);
  }),
  /** dX_i is the part of dY that came from X_i. */
  Concat: rule([4, 24], (c) => {
    const { g } = c;
    const dY = dOutput(c);
    const axis = positiveAxis(intAttribute(c.node, "axis", 0), dY.shape.length);
    let offset: Dim = 0;
    return c.inputs.map((x, i) => {
      const start = offset;
      offset = addDims(offset, x?.shape[axis] ?? 0);
      if (!c.needs[i] || !x) return null;
      const [from, to] = [g.shapeTensor([start]), g.shapeTensor([offset])];
      return g.op("Slice", [dY, from, to, g.ints([axis])])[0] as Value;
    });
  }),
  /** dX puts the gradients of the parts side by side. */
  Split: rule([2, 24], (c) => {
    const axis = positiveAxis(intAttribute(c.node, "axis", 0), inputAt(c, 0).shape.length);
    const parts = c.node.outputs.map((_, i) => {
      const part = c.g.extraOutput(c.node, i);
      return c.dOutputs[i] ?? c.g.filled(part.shape, 0, part.type, part);
    });
    return [c.g.concat(parts, axis)];
  }),
  /**
   * Y = X[starts:ends:steps]: dX = dY between zeros. Steps other than 1 and starts computed at run time put dY at the
   * picked indices instead. Starts must lie inside the axis, as shape inference assumes too.
   */
  Slice: rule([1, 24], sliceBackward),
  /** Y repeats X along axes of size 1: the engine sums dY to X's shape. */
  Expand: rule([8, 24], (c) => [dOutput(c)]),
  /** Y repeats X `repeats[i]` times along axis i: dX sums dY, seen as [repeats[0], d0, repeats[1], d1, ...], over the repeats. */
  Tile: rule([6, 24], tileBackward),
  /**
   * Y is X between constants: dX = dY padded by the negated amounts (Pad crops where they are negative), dConstant = the
   * rest of dY's sum. Modes reflect, edge and wrap pick entries of X, found by padding 0..n-1 in the same way: their
   * gradients add up.
   */
  Pad: rule([11, 24], padBackward),
  /** Y keeps a triangle of the last two axes: dX the same triangle of dY. */
  Trilu: rule([14, 24], (c) => {
    const upper = intAttribute(c.node, "upper", 1);
    return [c.g.op("Trilu", [dOutput(c), c.inputs[1] ?? null], { upper })[0] as Value];
  }),
};
