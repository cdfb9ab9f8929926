import { PeftError } from "../errors.ts";
import { type AttributeInput, float } from "../graph/attributes.ts";
import { divideExactly } from "../onnx/dims.ts";
import { at, intsAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";
import { alongAxis, identityMatrix } from "./separable.ts";

/** What a Resize or Upsample node reads beside X. */
interface Request {
  readonly scales: Value | null;
  readonly roi: Value | null;
  /** Axes that `scales` and `roi` speak of, in their order. */
  readonly axes: readonly number[];
  readonly scaleAttribute: readonly number[] | null;
}

function requestOf(c: RuleContext): Request {
  const rank = inputAt(c, 0).shape.length;
  const axes = intsAttribute(c.node, "axes")?.map((a) => positiveAxis(a, rank)) ?? upTo(rank);
  const attribute = c.node.attributes["scales"];
  const old = c.inputs.length <= 2; // Upsample, and Resize in opset 10
  const scales = c.inputs[old ? 1 : 2] ?? null;
  return {
    // Resize is given sizes or scales; an absent one may be an empty tensor.
    scales: c.inputs[3] || scales?.shape[0] === 0 ? null : scales,
    roi: old ? null : (c.inputs[1] ?? null),
    axes,
    scaleAttribute: attribute?.type === "floats" ? attribute.value : null,
  };
}

const modeOf = (c: RuleContext): string => stringAttribute(c.node, "mode", "nearest");
const coordinatesOf = (c: RuleContext): string =>
  c.node.op === "Upsample" || c.g.opset < 11
    ? "asymmetric"
    : stringAttribute(c.node, "coordinate_transformation_mode", "half_pixel");

/** Scales as numbers where they are constants. */
function knownScales(c: RuleContext, { scales, scaleAttribute }: Request): readonly number[] | null {
  const tensor = scales ? c.g.initializers.get(scales.name) : undefined;
  return scaleAttribute ?? (tensor ? [...toFloat32Array(tensor)] : null);
}

/**
 * How often each entry of X is repeated along every axis, where all of Y is repetition: nearest, whole factors, and
 * coordinates that never fall on a tie. Else null.
 */
function repeats(c: RuleContext, request: Request): number[] | null {
  const [x, y] = [inputAt(c, 0), outputAt(c)];
  if (modeOf(c) !== "nearest") return null;
  const coordinates = coordinatesOf(c);
  const rounding = stringAttribute(c.node, "nearest_mode", "round_prefer_floor");
  const floors = coordinates === "asymmetric" && (c.g.opset < 11 || rounding === "floor");
  const centres = /half_pixel(_symmetric)?$/.test(coordinates) && rounding.startsWith("round");
  if (!floors && !centres) return null;
  const given = knownScales(c, request);
  if (request.scales && !given) return null;
  const factors = x.shape.map((size, axis) => {
    const scale = given?.[request.axes.indexOf(axis)];
    return scale ?? divideExactly(at(y.shape, axis), size);
  });
  return factors.every((f): f is number => typeof f === "number" && Number.isInteger(f) && f >= 1) ? factors : null;
}

/** dX for repeated entries: dY seen as [d0, f0, d1, f1, ...], summed over the repeats. */
function sumRepeats(c: RuleContext, factors: readonly number[]): Value {
  const { g } = c;
  const [x, dY] = [inputAt(c, 0), dOutput(c)];
  const split = g.reshape(
    dY,
    x.shape.flatMap((size, axis) => (at(factors, axis) === 1 ? [size] : [size, at(factors, axis)])),
    dY,
  );
  let place = -1;
  const summed = factors.flatMap((f) => {
    place += f === 1 ? 1 : 2;
    return f === 1 ? [] : [place];
  });
  return summed.length === 0 ? dY : g.reduceSum(split, summed, false);
}

const kept = [
  "mode",
  "coordinate_transformation_mode",
  "nearest_mode",
  "cubic_coeff_a",
  "exclude_outside",
  "antialias",
];

/** What the node makes of the identity along one axis: [n, o]. Entries from outside (tf_crop_and_resize) are zero. */
function matrixAlong(c: RuleContext, request: Request, axis: number): Value {
  const { g, node } = c;
  const [x, y] = [inputAt(c, 0), outputAt(c)];
  const attributes: Record<string, AttributeInput> = {};
  for (const name of kept) {
    const value = node.attributes[name];
    if (value) attributes[name] = value;
  }
  const rows = identityMatrix(g, at(x.shape, axis), x.type);
  const position = request.axes.indexOf(axis);
  const known = knownScales(c, request);
  const scales = (): Value => {
    if (known) return g.constant("float32", [1, at(known, position)]);
    return g.concat([g.constant("float32", [1]), g.gather(request.scales as Value, g.ints([position]))], 0);
  };
  if (node.op === "Upsample" || g.opset < 11) return g.op(node.op, [rows, scales()], attributes)[0] as Value;
  const empty = g.constant("float32", [], [0]);
  let roi = empty;
  if (coordinatesOf(c) === "tf_crop_and_resize") {
    attributes["extrapolation_value"] = float(0);
    const bound = (i: number): Value => g.gather(inputAt(c, 1), g.ints([i]));
    const [start, end] = [bound(position), bound(position + request.axes.length)];
    roi = g.concat([g.constant(start.type, [0]), start, g.constant(start.type, [1]), end], 0);
  }
  const sizes = (): Value => g.shapeTensor([at(x.shape, axis), at(y.shape, axis)]);
  const inputs = request.scales ? [rows, roi, scales()] : [rows, roi, empty, sizes()];
  return g.op("Resize", inputs, attributes)[0] as Value;
}

function backward(c: RuleContext): readonly [Value] {
  const { g } = c;
  const [x, y] = [inputAt(c, 0), outputAt(c)];
  const policy = stringAttribute(c.node, "keep_aspect_ratio_policy", "stretch");
  if (policy !== "stretch" && c.inputs[3]) {
    throw new PeftError(
      "UNSUPPORTED_ATTRIBUTE",
      `Expected keep_aspect_ratio_policy "stretch" for the gradient of Resize "${c.node.name}", received "${policy}".`,
      { hint: "Export the model with the sizes that the policy leads to, or choose target modules after this node." },
    );
  }
  const request = requestOf(c);
  const factors = repeats(c, request);
  if (factors) return [g.reshapeLike(sumRepeats(c, factors), x)];
  let dX = dOutput(c);
  const crops = coordinatesOf(c) === "tf_crop_and_resize";
  for (const axis of [...request.axes].sort((a, b) => b - a)) {
    const same = at(x.shape, axis) === at(y.shape, axis);
    if (!same || (crops && axis >= 2)) dX = alongAxis(g, dX, matrixAlong(c, request, axis), axis);
  }
  return [g.reshapeLike(dX, x)];
}

/** Resampling to another size. */
export const resizing = {
  /**
   * Y = X interpolated along every axis, which is linear in X: dX = dY times the transposed interpolation matrix of every
   * resized axis. The matrix is the node's own work on the identity, so every coordinate_transformation_mode, nearest_mode
   * and cubic option holds, also with sizes that are known at run time only; ONNX Runtime folds it for fixed sizes. Whole
   * nearest factors are sums over blocks. Saves nothing.
   */
  Resize: rule([10, 24], backward),
  /** As Resize with asymmetric coordinates, rounded down. */
  Upsample: rule([9, 9], backward),
};
