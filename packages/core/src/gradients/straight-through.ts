import { PeftError } from "../errors.ts";
import { mulDims, subDims } from "../onnx/dims.ts";
import type { ElementType } from "../onnx/element-type.ts";
import { at, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { asMask } from "./masks.ts";
import { type GradientRule, type RuleContext, rule, straightThrough } from "./rule.ts";

/** Smallest and largest integer of a quantised type. */
const ranges: Partial<Record<ElementType, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65535],
  int16: [-32768, 32767],
  uint4: [0, 15],
  int4: [-8, 7],
};

/** How scales and zero points belong to a tensor: one for all, one per slice of an axis, or one per block along it. */
interface Granularity {
  /** A scale or zero point in a shape that broadcasts against the tensor. */
  spread(small: Value): Value;
  /** The sum of a value of the tensor's shape over everything that shares a scale. */
  collect(large: Value): Value;
}

function granularityOf(c: RuleContext): Granularity {
  const { g } = c;
  const [x, scale] = [inputAt(c, 0), inputAt(c, 1)];
  const rank = x.shape.length;
  const block = intAttribute(c.node, "block_size", 0);
  const axis = positiveAxis(intAttribute(c.node, "axis", 1), rank);
  if (block > 0) {
    const blocks = at(scale.shape, axis);
    const size = at(x.shape, axis);
    const excess = subDims(mulDims(blocks, block), size);
    const parts = x.shape.flatMap((d, i) => (i === axis ? [blocks, block] : [d]));
    const whole = x.shape.map((d, i) => (i === axis ? mulDims(blocks, block) : d));
    return {
      spread: (small) => {
        const wide = g.expand(g.unsqueeze(small, [axis + 1]), parts);
        const repeated = g.reshape(wide, whole);
        if (excess === 0) return repeated;
        return g.op("Slice", [repeated, g.ints([0]), g.shapeTensor([size]), g.ints([axis])])[0] as Value;
      },
      collect: (large) => {
        const pads = [...upTo(rank).map(() => 0), ...upTo(rank).map((i) => (i === axis ? excess : 0))];
        const padded = excess === 0 ? large : (g.op("Pad", [large, g.shapeTensor(pads)])[0] as Value);
        return g.reduceSum(g.reshape(padded, parts), [axis + 1], false);
      },
    };
  }
  if (scale.shape.length === 1 && scale.shape[0] !== 1) {
    const dims = x.shape.map((d, i) => (i === axis ? d : 1));
    return {
      spread: (small) => g.reshape(small, dims),
      collect: (large) =>
        g.reduceSum(
          large,
          upTo(rank).filter((i) => i !== axis),
          false,
        ),
    };
  }
  return { spread: (small) => small, collect: (large) => large };
}

/** The zero point as a number of the given type, ready to broadcast; null where it is 0. */
function zeroPoint(c: RuleContext, { spread }: Granularity, type: ElementType): Value | null {
  const zero = c.inputs[2];
  return zero ? spread(c.g.cast(zero, type)) : null;
}

/** ONNX Runtime has these operators in its own domain too, for element types that older opsets lack. */
const forBothDomains = <const K extends string>(op: K, entry: GradientRule) =>
  ({ [op]: entry, [`com.microsoft::${op}`]: entry }) as Record<K | `com.microsoft::${K}`, GradientRule>;

/** Rounding to integers and back. */
export const quantization = {
  /**
   * Q = round(X / S) + Z with S and Z from the range of X, so that nothing is clamped: straight through, dX = dQ / S; S and Z count
   * as constants. Saves S. Where the scale has a gradient and Q has none, an operator without a derivative reads Q: an
   * error, where a zero gradient would hide that nothing is learnt.
   */
  DynamicQuantizeLinear: straightThrough([11, 24], ({ g, node, outputs, dOutputs }) => {
    const [dQ, scale] = [dOutputs[0], outputs[1]];
    if (dQ && scale) return [g.div(dQ, scale)];
    throw new PeftError(
      "INTEGER_ARITHMETIC",
      `"${node.name}" rounds a value between an adapter and the loss to integers, for an operator without a gradient.`,
      {
        hint: "Choose target modules after this node, or train on the file before it was quantised.",
        details: { op: node.op, node: node.name },
      },
    );
  }),
  /**
   * Q = clamp(round(X / S) + Z): the straight-through gradients dX = dQ / S and dS = -dQ X / S^2 where nothing was clamped,
   * 0 elsewhere. Together with DequantizeLinear's these are the gradients of learned step sizes (arXiv 1902.08153) and of
   * PyTorch's fake quantisation. Saves X and S. Zero points are integers and have none.
   */
  ...forBothDomains(
    "QuantizeLinear",
    straightThrough([10, 24], (c) => {
      const { g } = c;
      const [x, scale, dQ] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
      const { type } = outputAt(c);
      const range = ranges[type];
      if (!range) {
        throw new PeftError(
          "UNSUPPORTED_ATTRIBUTE",
          `QuantizeLinear "${c.node.name}" rounds to ${type}; straight-through gradients exist for integers.`,
          { hint: "Choose target modules after this node." },
        );
      }
      const granularity = granularityOf(c);
      const steps = granularity.spread(g.cast(scale, x.type));
      const zero = zeroPoint(c, granularity, x.type);
      const exact = g.div(x, steps);
      const [rounded] = g.op("Round", [exact]);
      const placed = zero ? g.add(rounded as Value, zero) : (rounded as Value);
      const [low, high] = range;
      const [clamped] = g.op("Clip", [placed, g.constant(x.type, low), g.constant(x.type, high)]);
      const dX = g.div(g.mul(dQ, asMask(g, g.equal(clamped as Value, placed), x)), steps);
      return [dX, c.needs[1] ? granularity.collect(g.neg(g.mul(dX, exact))) : null];
    }),
  ),
  /**
   * Y = (Q - Z) S: dQ = dY S, which only a QuantizeLinear before it takes up, and dS = sum dY (Q - Z) over all that share
   * the scale. Saves Q. A frozen quantised weight needs neither.
   */
  ...forBothDomains(
    "DequantizeLinear",
    rule([10, 24], (c) => {
      const { g } = c;
      const [q, scale, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
      const granularity = granularityOf(c);
      const dQ = c.needs[0] ? g.mul(dY, granularity.spread(g.cast(scale, dY.type))) : null;
      if (!c.needs[1]) return [dQ];
      const zero = zeroPoint(c, granularity, dY.type);
      const steps = g.cast(q, dY.type);
      const dScale = granularity.collect(g.mul(dY, zero ? g.sub(steps, zero) : steps));
      return [dQ, g.cast(dScale, scale.type)];
    }),
  ),
};
