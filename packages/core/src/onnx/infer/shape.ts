import { addDims, divideExactly, floorDivide, isNeverNegative, isStatic, mulDims, sizeOf, subDims } from "../dims.ts";
import { elementTypeOf } from "../element-type.ts";
import type { Dim, Shape } from "../ir.ts";
import { defaultLimits } from "../limits.ts";
import { tiedDims } from "../tied.ts";
import type { Infer, InferContext } from "./context.ts";
import { at, axisOf, broadcastShapes, fail, input, intAttribute, intsAttribute } from "./context.ts";

/** A list given as an attribute in old opsets and as input `index` in new ones; null when computed at run time. */
function listOf(c: InferContext, attribute: string, index: number): readonly Dim[] | null {
  return intsAttribute(c.node, attribute) ?? (c.inputs[index] ? c.ints(index) : null);
}

/** Length of a 1-D input, needed when its contents are unknown. */
function lengthOf(c: InferContext, index: number): number {
  const [length] = input(c, index).shape;
  if (typeof length !== "number") return fail(c, `the length of input ${index} must be known.`);
  return length <= defaultLimits.maxRank ? length : fail(c, `${length} axes are more than ${defaultLimits.maxRank}.`);
}

const reshape: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const target = tiedDims(c.node) ?? listOf(c, "shape", 1);
  if (!target) {
    const rank = lengthOf(c, 1);
    return [{ type, shape: Array.from({ length: rank }, () => c.fresh()) }];
  }
  const allowZero = intAttribute(c.node, "allowzero", 0) === 1;
  const result = target.map((dim, i) =>
    dim === 0 && !allowZero ? (shape[i] ?? fail(c, "0 copies a missing axis.")) : dim,
  );
  const open = result.indexOf(-1);
  if (open >= 0) {
    const others = sizeOf(result.filter((_, i) => i !== open));
    const total = sizeOf(shape);
    result[open] = others === 0 ? 0 : (divideExactly(total, others) ?? c.fresh());
  }
  return [{ type, shape: result }];
};

const transpose: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const perm = intsAttribute(c.node, "perm") ?? shape.map((_, i) => shape.length - 1 - i);
  if (perm.length !== shape.length) fail(c, `perm has ${perm.length} axes.`);
  return [{ type, shape: perm.map((axis) => at(shape, axis)) }];
};

const flatten: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const raw = intAttribute(c.node, "axis", 1);
  const axis = raw < 0 ? raw + shape.length : raw;
  return [{ type, shape: [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))] }];
};

const squeeze: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const given = listOf(c, "axes", 1);
  if (!given && c.inputs[1]) fail(c, "axes must be constant.");
  const axes = given
    ? given.map((a) => axisOf(c, Number(a), shape.length))
    : shape.flatMap((d, i) => (d === 1 ? [i] : []));
  return [{ type, shape: shape.filter((_, i) => !axes.includes(i)) }];
};

const unsqueeze: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const given = listOf(c, "axes", 1) ?? fail(c, "axes must be constant.");
  const rank = shape.length + given.length;
  const axes = new Set(given.map((a) => axisOf(c, Number(a), rank)));
  const rest = [...shape];
  return [{ type, shape: Array.from({ length: rank }, (_, i) => (axes.has(i) ? 1 : (rest.shift() ?? 1))) }];
};

const concat: Infer = (c) => {
  const first = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", 0), first.shape.length);
  const shapes = c.inputs.flatMap((v) => (v ? [v.shape] : []));
  const shape = first.shape.map((dim, i) => {
    if (i === axis) return shapes.reduce<Dim>((sum, s) => addDims(sum, at(s, i)), 0);
    return shapes.map((s) => at(s, i)).find((d) => typeof d === "number") ?? dim;
  });
  return [{ type: first.type, shape }];
};

const split: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", 0), shape.length);
  const count = c.node.outputs.length;
  const total = at(shape, axis);
  const given = listOf(c, "split", 1);
  const chunk = typeof total === "number" ? Math.ceil(total / count) : (divideExactly(total, count) ?? c.fresh());
  return c.node.outputs.map((_, i) => {
    const even = typeof total === "number" && typeof chunk === "number" ? Math.min(chunk, total - i * chunk) : chunk;
    return { type, shape: shape.map((d, j) => (j === axis ? (given?.[i] ?? even) : d)) };
  });
};

/** Size of one sliced axis for a positive or negative step; a fresh symbol when bounds are not known. */
function slicedSize(c: InferContext, dim: Dim, start: Dim, end: Dim, step: Dim): Dim {
  if (typeof step !== "number" || step === 0) return c.fresh();
  const huge = (x: Dim): boolean => typeof x === "number" && Math.abs(x) >= 2 ** 31 - 1;
  if (typeof dim === "number" && typeof start === "number" && typeof end === "number") {
    const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x < 0 ? x + dim : x, low), high);
    const [from, to] =
      step > 0 ? [clamp(start, 0, dim), clamp(end, 0, dim)] : [clamp(start, 0, dim - 1), clamp(end, -1, dim - 1)];
    const last = step < 0 && huge(end) ? -1 : to;
    return Math.max(0, Math.ceil((last - from) / step));
  }
  if (step === 1 && typeof start === "number") {
    const from: Dim = start < 0 ? addDims(dim, start) : start;
    if (huge(end) || end === dim) return start < 0 ? -start : subDims(dim, from);
    if (typeof end === "number")
      return end < 0
        ? subDims(addDims(dim, end), from)
        : start >= 0 && typeof dim === "string" && start === 0 && end === 1
          ? 1
          : c.fresh();
    if (isNeverNegative(end)) return subDims(end, from);
    return isNeverNegative(mulDims(end, -1)) ? subDims(addDims(dim, end), from) : c.fresh();
  }
  if (step === -1 && huge(start) && huge(end)) return dim;
  return c.fresh();
}

const slice: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const starts = listOf(c, "starts", 1);
  const ends = listOf(c, "ends", 2);
  const count = starts?.length ?? ends?.length ?? lengthOf(c, 1);
  const axes = listOf(c, "axes", 3) ?? (c.inputs[3] ? null : Array.from({ length: count }, (_, i) => i));
  if (!axes) return [{ type, shape: shape.map(() => c.fresh()) }];
  const steps = c.inputs[4] ? c.ints(4) : axes.map(() => 1);
  const result = [...shape];
  axes.forEach((raw, i) => {
    const axis = axisOf(c, Number(raw), shape.length);
    const [start, end, step] = [starts?.[i], ends?.[i], steps?.[i]];
    const known = start !== undefined && end !== undefined && step !== undefined;
    result[axis] = known ? slicedSize(c, at(shape, axis), start, end, step) : c.fresh();
  });
  return [{ type, shape: result }];
};

const gather: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", 0), shape.length);
  return [{ type, shape: [...shape.slice(0, axis), ...input(c, 1).shape, ...shape.slice(axis + 1)] }];
};

const gatherND: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const indices = input(c, 1).shape;
  const batch = intAttribute(c.node, "batch_dims", 0);
  const depth = at(indices, -1);
  if (typeof depth !== "number") fail(c, "the last axis of the indices must be known.");
  return [{ type, shape: [...indices.slice(0, -1), ...shape.slice(batch + depth)] }];
};

const likeIndices: Infer = (c) => [{ type: input(c, 0).type, shape: input(c, 1).shape }];
const likeData: Infer = (c) => [{ type: input(c, 0).type, shape: input(c, 0).shape }];

const expand: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const target = c.ints(1) ?? Array.from({ length: lengthOf(c, 1) }, () => c.fresh());
  return [
    { type, shape: broadcastShapes([shape, target], c.fresh) ?? fail(c, "shapes cannot be broadcast together.") },
  ];
};

const tile: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const repeats = c.ints(1);
  return [{ type, shape: shape.map((d, i) => (repeats ? mulDims(d, at(repeats, i)) : c.fresh())) }];
};

const pad: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const pads = listOf(c, "pads", 1);
  const axes = c.inputs[3] ? c.ints(3) : shape.map((_, i) => i);
  if (!axes) return [{ type, shape: shape.map(() => c.fresh()) }];
  const result = [...shape];
  axes.forEach((raw, i) => {
    const axis = axisOf(c, Number(raw), shape.length);
    result[axis] = pads ? addDims(addDims(at(shape, axis), at(pads, i)), at(pads, i + axes.length)) : c.fresh();
  });
  return [{ type, shape: result }];
};

const shapeOp: Infer = (c) => [{ type: "int64", shape: [shapeSlice(c).length] }];

/** The part of the input's shape that Shape's `start` and `end` select. */
export function shapeSlice(c: InferContext): Shape {
  const { shape } = input(c, 0);
  return shape.slice(intAttribute(c.node, "start", 0), intAttribute(c.node, "end", shape.length));
}

const constantOfShape: Infer = (c) => {
  const value = c.node.attributes["value"];
  const type = value?.type === "tensor" ? value.value.type : "float32";
  return [{ type, shape: c.ints(0) ?? Array.from({ length: lengthOf(c, 0) }, () => c.fresh()) }];
};

const constant: Infer = (c) => {
  const a = c.node.attributes;
  if (a["value"]?.type === "tensor") return [{ type: a["value"].value.type, shape: a["value"].value.dims }];
  if (a["value_float"]) return [{ type: "float32", shape: [] }];
  if (a["value_int"]) return [{ type: "int64", shape: [] }];
  if (a["value_floats"]?.type === "floats") return [{ type: "float32", shape: [a["value_floats"].value.length] }];
  if (a["value_ints"]?.type === "ints") return [{ type: "int64", shape: [a["value_ints"].value.length] }];
  return fail(c, "this form of Constant is not supported.");
};

const range: Infer = (c) => {
  const [start, limit, step] = [c.ints(0)?.[0], c.ints(1)?.[0], c.ints(2)?.[0]];
  const known = start !== undefined && limit !== undefined && step !== undefined;
  const length = (): Dim => {
    if (!known) return c.fresh();
    if (isStatic([start, limit, step])) return Math.max(0, Math.ceil((Number(limit) - Number(start)) / Number(step)));
    const span = subDims(limit, start);
    if (typeof step !== "number") return c.fresh();
    // ceil(span / step), with both signs turned for a step downwards.
    const [way, stride] = step < 0 ? [mulDims(span, -1), -step] : [span, step];
    return stride === 1 ? way : floorDivide(addDims(way, stride - 1), stride);
  };
  return [{ type: input(c, 0).type, shape: [length()] }];
};

const oneHot: Infer = (c) => {
  const { shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", -1), shape.length + 1);
  const depth = c.ints(1)?.[0] ?? c.fresh();
  return [{ type: input(c, 2).type, shape: [...shape.slice(0, axis), depth, ...shape.slice(axis)] }];
};

const topK: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", -1), shape.length);
  const k = c.ints(1)?.[0] ?? c.fresh();
  const result = shape.map((d, i) => (i === axis ? k : d));
  return [
    { type, shape: result },
    { type: "int64", shape: result },
  ];
};

const nonZero: Infer = (c) => [{ type: "int64", shape: [input(c, 0).shape.length, c.fresh()] }];
const eyeLike: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const code = intAttribute(c.node, "dtype", 0);
  return [{ type: code ? elementTypeOf(code, `EyeLike "${c.node.name}"`) : type, shape }];
};

export const shapes = {
  Reshape: reshape,
  Transpose: transpose,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  GatherElements: likeIndices,
  GatherND: gatherND,
  ScatterElements: likeData,
  ScatterND: likeData,
  Expand: expand,
  Tile: tile,
  Pad: pad,
  Shape: shapeOp,
  Size: () => [{ type: "int64", shape: [] }],
  ConstantOfShape: constantOfShape,
  Constant: constant,
  Range: range,
  OneHot: oneHot,
  TopK: topK,
  NonZero: nonZero,
  EyeLike: eyeLike,
} satisfies Record<string, Infer>;
