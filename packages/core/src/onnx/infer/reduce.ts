import type { Dim, Shape } from "../ir.ts";
import type { Infer, InferContext } from "./context.ts";
import { axisOf, fail, forAll, input, intAttribute, intsAttribute } from "./context.ts";

/** Axes of a reduction: an attribute in old opsets, an input in new ones. Null: all axes; "unknown": computed at run time. */
function reducedAxes(c: InferContext): number[] | null | "unknown" {
  const rank = input(c, 0).shape.length;
  const fromAttribute = intsAttribute(c.node, "axes");
  if (fromAttribute) return fromAttribute.map((a) => axisOf(c, a, rank));
  if (!c.inputs[1]) return null;
  const known = c.ints(1);
  if (!known || known.some((a) => typeof a !== "number")) return "unknown";
  return known.length === 0 ? null : known.map((a) => axisOf(c, Number(a), rank));
}

/** Shape when the axes are computed at run time; without kept axes their number gives the rank. */
function openShape(c: InferContext, shape: Shape, keep: boolean): Dim[] {
  if (keep) return shape.map((d) => (d === 1 ? 1 : c.fresh()));
  const count = c.inputs[1]?.shape[0];
  if (typeof count !== "number") return fail(c, "the number of axes must be known when they are not kept.");
  return shape.slice(count).map(() => c.fresh());
}

const reduction: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const keep = intAttribute(c.node, "keepdims", 1) === 1;
  const noop = intAttribute(c.node, "noop_with_empty_axes", 0) === 1;
  const axes = reducedAxes(c);
  if (axes === "unknown") return [{ type, shape: openShape(c, shape, keep) }];
  if (axes === null && noop) return [{ type, shape }];
  const gone = new Set(axes ?? shape.keys());
  const result: Dim[] = [];
  shape.forEach((dim, axis) => {
    if (!gone.has(axis)) result.push(dim);
    else if (keep) result.push(1);
  });
  return [{ type, shape: result }];
};

const argument: Infer = (c) => {
  const { shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", 0), shape.length);
  const keep = intAttribute(c.node, "keepdims", 1) === 1;
  return [{ type: "int64", shape: shape.flatMap((d, i) => (i === axis ? (keep ? [1] : []) : [d])) }];
};

const names = [
  "ReduceSum",
  "ReduceMean",
  "ReduceMax",
  "ReduceMin",
  "ReduceProd",
  "ReduceL1",
  "ReduceL2",
  "ReduceSumSquare",
  "ReduceLogSum",
  "ReduceLogSumExp",
] as const;

export const reductions = {
  ...forAll(names, reduction),
  ArgMax: argument,
  ArgMin: argument,
} satisfies Record<string, Infer>;
