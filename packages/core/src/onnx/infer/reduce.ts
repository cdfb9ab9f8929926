import type { Dim } from "../ir.ts";
import type { Infer, InferContext } from "./context.ts";
import { axisOf, forAll, input, intAttribute, intsAttribute } from "./context.ts";

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

const reduction: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const keep = intAttribute(c.node, "keepdims", 1) === 1;
  const axes = reducedAxes(c);
  if (axes === "unknown") {
    if (!keep) return [{ type, shape: shape.map(() => c.fresh()) }];
    return [{ type, shape: shape.map((d) => (d === 1 ? 1 : c.fresh())) }];
  }
  const noop = intAttribute(c.node, "noop_with_empty_axes", 0) === 1;
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
