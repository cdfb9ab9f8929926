import { sizeOf } from "../onnx/dims.ts";
import { intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { inputAt, outputAt } from "./helpers.ts";
import type { RuleContext } from "./rule.ts";

/** The axes of a reduction, and what gradient rules do with them. */
export interface Reduced {
  /** A value of the result's shape with the reduced axes back at size 1. */
  keep(value: Value): Value;
  /** A kept value repeated to the input's shape. */
  spread(value: Value): Value;
  /** How many values one result comes from, as a scalar of the input's type. */
  count(): Value;
  /** Sum of a value of the input's shape over the same axes, kept. */
  sum(value: Value): Value;
  /** The node's own reduction of another value of the input's shape, kept. */
  again(op: string, value: Value): Value;
}

/** Axes as positive numbers; null when they are computed at run time. */
function knownAxes(c: RuleContext): readonly number[] | null {
  const rank = inputAt(c, 0).shape.length;
  const given = intsAttribute(c.node, "axes") ?? (c.inputs[1] ? c.g.intsOf(c.inputs[1]) : []);
  if (given === null || given.some((a) => typeof a !== "number")) return null;
  if (given.length > 0) return given.map((a) => positiveAxis(Number(a), rank));
  return intAttribute(c.node, "noop_with_empty_axes", 0) === 1 ? [] : upTo(rank);
}

/** Reads the axes of a reduction from its attribute (old opsets) or input (new ones). */
export function reducedOf(c: RuleContext): Reduced {
  const axes = knownAxes(c);
  return axes ? withKnownAxes(c, axes) : withRunTimeAxes(c, inputAt(c, 1));
}

function withKnownAxes(c: RuleContext, axes: readonly number[]): Reduced {
  const { g } = c;
  const x = inputAt(c, 0);
  const kept = x.shape.map((d, i) => (axes.includes(i) ? 1 : d));
  /** ReduceSum takes its axes as an input from opset 13, the other reductions from 18. */
  const reduce = (op: string, value: Value, from: number): Value => {
    if (axes.length === 0) return value;
    const [result] =
      g.opset >= from
        ? g.op(op, [value, g.ints(axes)], { keepdims: 1 })
        : g.op(op, [value], { axes: [...axes], keepdims: 1 });
    return result as Value;
  };
  return {
    keep: (value) =>
      value.shape.length === kept.length
        ? value
        : g.unsqueeze(
            value,
            [...axes].sort((a, b) => a - b),
          ),
    spread: (value) => g.expand(value, x.shape, x),
    count: () => {
      const known = sizeOf(x.shape.filter((_, i) => axes.includes(i)));
      if (typeof known === "number") return g.constant(x.type, known);
      const sizes = g.gather(g.shapeTensor(x.shape, x), g.ints(axes));
      return g.cast(g.op("ReduceProd", [sizes], { keepdims: 0 })[0] as Value, x.type);
    },
    sum: (value) => reduce("ReduceSum", value, 13),
    again: (op, value) => reduce(op, value, 18),
  };
}

function withRunTimeAxes(c: RuleContext, axes: Value): Reduced {
  const { g, node } = c;
  const x = inputAt(c, 0);
  const noop = intAttribute(node, "noop_with_empty_axes", 0);
  const again = (op: string, value: Value): Value =>
    g.op(op, [value, axes], { keepdims: 1, noop_with_empty_axes: noop })[0] as Value;
  return {
    keep: (value) => {
      if (value.shape.length === x.shape.length) return value;
      const ones = g.filled(axes.shape, 1, "int64", axes);
      const target = g.scatterElements(g.shapeOf(x), axes, ones, 0);
      return g.op("Reshape", [value, target])[0] as Value;
    },
    spread: (value) => g.expand(value, x.shape, x),
    count: () => {
      const size = (v: Value): Value => g.op("Size", [v])[0] as Value;
      return g.cast(g.div(size(x), size(outputAt(c))), x.type);
    },
    sum: (value) => again("ReduceSum", value),
    again,
  };
}
