import { PeftError } from "../errors.ts";
import { addDims, mulDims, subDims } from "../onnx/dims.ts";
import { at, intAttribute, intsAttribute, stringAttribute } from "../onnx/infer/context.ts";
import { extentOf, type Windows, windowsOf } from "../onnx/infer/windows.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";
import { type Convolution, inputGradient, weightGradient } from "./convolution-parts.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type RuleContext, rule, straightThrough } from "./rule.ts";

/** Kernel sizes as numbers. @throws PeftError DYNAMIC_KERNEL */
function kernelOf(c: RuleContext, weight: Value): readonly number[] {
  const sizes = intsAttribute(c.node, "kernel_shape") ?? weight.shape.slice(2);
  if (sizes.every((d): d is number => typeof d === "number")) return sizes;
  throw new PeftError(
    "DYNAMIC_KERNEL",
    `Expected a known kernel size for the gradient of ${c.node.op} "${c.node.name}", received a weight of shape [${weight.shape.join(", ")}].`,
    { hint: "Give the node the attribute kernel_shape." },
  );
}

const geometryOf = (c: RuleContext, weight: Value): Convolution => ({
  windows: windowsOf(c.node, kernelOf(c, weight)),
  group: intAttribute(c.node, "group", 1),
});

const sumPerChannel = (c: RuleContext, dY: Value): Value =>
  c.g.reduceSum(
    dY,
    upTo(dY.shape.length).filter((axis) => axis !== 1),
    false,
  );

/**
 * The windows of the convolution that ConvTranspose is the transpose of, from its result Y [.., out] to its input X [.., n].
 * Explicit padding is the convolution's own, less the output padding (less than a stride in ONNX Runtime), which no window meets. SAME_* and
 * output_shape cut the result down to size: (n - 1) s + e + output padding - out entries, half of them in front; the
 * odd one is in front too, for SAME_UPPER behind.
 * @throws PeftError DYNAMIC_PADS
 */
function transposeOf(c: RuleContext, w: Windows, x: Value, y: Value): Windows {
  const isExplicit =
    stringAttribute(c.node, "auto_pad", "NOTSET") === "NOTSET" && !intsAttribute(c.node, "output_shape");
  const pads = upTo(w.kernel.length).map((i): readonly [number, number] => {
    const extra = intsAttribute(c.node, "output_padding")?.[i] ?? 0;
    if (isExplicit) return [at(w.heads, i), at(w.tails, i) - extra];
    const full: Dim = addDims(mulDims(subDims(at(x.shape, i + 2), 1), at(w.strides, i)), extentOf(w, i));
    const total = subDims(addDims(full, extra), at(y.shape, i + 2));
    if (typeof total !== "number") {
      throw new PeftError(
        "DYNAMIC_PADS",
        `Expected a known input size for the gradient of ConvTranspose "${c.node.name}" with output_shape, received [${x.shape.join(", ")}].`,
        { hint: "Export the model with a fixed image size, or with explicit pads." },
      );
    }
    const cut = Math.max(0, total);
    const head = w.same === "upper" ? Math.floor(cut / 2) : Math.ceil(cut / 2);
    return [head, cut - head - extra];
  });
  return { ...w, same: "none", heads: pads.map(([head]) => head), tails: pads.map(([, tail]) => tail) };
}

/** dX of ConvTranspose: the convolution of dY. */
function convolved(c: RuleContext, { windows: w, group }: Convolution, dY: Value, weight: Value): Value {
  const pads = [...w.heads, ...w.tails.map((tail) => Math.max(0, tail))];
  const attributes = { strides: w.strides, dilations: w.dilations, group, pads, kernel_shape: w.kernel.map(Number) };
  return c.g.op("Conv", [dY, weight], attributes)[0] as Value;
}

/** Convolutions of one, two or three spatial axes (ONNX Runtime's limit), with groups, strides, dilations and padding. */
export const convolution = {
  /**
   * Y[b, m, o] = B[m] + sum over c, k of X[b, c, o s + k d - p] W[m, c, k]. X [batch, C, ...n], W [M, C / group, ...k],
   * Y [batch, M, ...o]:
   *   dX = the transposed convolution of dY by W, dW[m, c, k] = sum over b, o of dY[b, m, o] X[b, c, o s + k d - p],
   *   dB = sum of dY over all but channels. Saves X for dW only: a frozen weight saves nothing.
   * How: {@link inputGradient}, {@link weightGradient}.
   */
  Conv: rule([11, 24], (c) => {
    const { g, needs } = c;
    const [x, weight, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const conv = geometryOf(c, weight);
    return [
      needs[0] ? inputGradient(g, conv, dY, weight, x) : null,
      needs[1] ? weightGradient(g, conv, x, dY, weight) : null,
      needs[2] ? sumPerChannel(c, dY) : null,
    ];
  }),
  /**
   * Conv of X - x and W - w over integers, zero points x for all, w for all or per output: straight through, dX as for Conv,
   * which only what rounds X takes up. The weight is a constant. Saves nothing.
   */
  ConvInteger: straightThrough([10, 24], (c) => {
    if (!c.needs[0]) return [null];
    const { g } = c;
    const [x, weight, dY, zero] = [inputAt(c, 0), inputAt(c, 1), dOutput(c), c.inputs[3]];
    const spread =
      zero?.shape.length === 1
        ? g.unsqueeze(
            zero,
            upTo(weight.shape.length - 1).map((i) => i + 1),
          )
        : zero;
    const float = g.cast(weight, dY.type);
    return [inputGradient(g, geometryOf(c, weight), dY, spread ? g.sub(float, g.cast(spread, dY.type)) : float, x)];
  }),
  /**
   * The transpose of Conv: X [batch, C, ...n], W [C, M / group, ...k], Y [batch, M, ...out].
   *   dX = Conv(dY, W), dW as for the Conv from Y to X, dB = sum of dY over all but channels. Saves X for dW only.
   */
  ConvTranspose: rule([11, 24], (c) => {
    const { g, needs } = c;
    const [x, weight, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const { windows, group } = geometryOf(c, weight);
    const conv = needs[0] || needs[1] ? { windows: transposeOf(c, windows, x, dY), group } : null;
    return [
      needs[0] && conv ? convolved(c, conv, dY, weight) : null,
      needs[1] && conv ? weightGradient(g, conv, dY, x, weight) : null,
      needs[2] ? sumPerChannel(c, dY) : null,
    ];
  }),
};
