import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { type Matrix, matrix, multiply } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { windowOf } from "./convolution.ts";
import { type Init, zeros } from "./init.ts";
import type { AdapterTensor, ByRole, ParameterSpec } from "./method.ts";

/** Sizes and start values. @throws PeftError RANK_GROUPS when the groups do not divide the rank */
export function convolutionParameters(site: SiteShape, r: number, initA: Init): ByRole<ParameterSpec> {
  const { groups } = windowOf(site);
  if (r % groups !== 0) {
    throw new PeftError(
      "RANK_GROUPS",
      `Expected a rank that is a multiple of the ${groups} groups of the convolution "${site.name}", received ${r}.`,
      { hint: "Choose another r, give the module its own in rankPattern, or exclude it." },
    );
  }
  const kernel = site.weightShape.slice(2);
  const fixed = kernel.map(() => null);
  return {
    A: { shape: [r, site.inFeatures, ...kernel], free: ["r", null, ...fixed], init: initA },
    B: {
      shape: [site.outFeatures, r / groups, ...kernel.map(() => 1)],
      free: [null, groups === 1 ? "r" : "r_of_group", ...fixed],
      init: zeros,
    },
  };
}

/**
 * LoRA at a convolution, as peft has it: y + scale * B(A(x)), where A [r, in, ...kernel] moves over x as the frozen kernel
 * does and B [out, r / groups, 1...] looks at single places, in the frozen convolution's groups. A sees all channels also
 * where there are groups. Parameters: r * (in * kernel places + out / groups).
 * A dilated convolution dilates A; peft leaves that out, and its A does not fit such a module unless the kernel is 1x1.
 * Each group of ranks gets a zero at its end: ONNX Runtime leaves the result of a Conv over no channels, which is what an
 * absent adapter of rank 0 comes to, as it finds it in memory. The scale sits on the rank-sized result.
 */
export function convolutionUpdate(g: Builder, x: Value, A: Value, B: Value, site: SiteShape, scale: number): Value {
  const { groups, ...window } = windowOf(site);
  const plain = g.conv(x, A, null, window); // [batch, r, ...places]
  const h = scale === 1 ? plain : g.mul(plain, scale);
  // The groups divide the rank: they are few.
  const parts = groups === 1 ? [h] : equalParts(g, h, groups);
  const filled = parts.map((part) => withZero(g, part));
  return g.conv(g.concat(filled, 1), withZero(g, B), null, { groups });
}

const equalParts = (g: Builder, x: Value, count: number): Value[] =>
  g.op("Split", [x], { axis: 1, ...(g.opset >= 18 ? { num_outputs: count } : {}) }, { count });

/** One more entry along axis 1. */
function withZero(g: Builder, x: Value): Value {
  const behind = x.shape.map((_, axis) => (axis === 1 ? 1 : 0));
  return g.op("Pad", [x, g.ints([...x.shape.map(() => 0), ...behind])])[0] as Value;
}

/**
 * The same as a change of the kernel: B·A as a matrix [out, in * places].
 * @throws PeftError NO_DELTA with groups, whose weight has no room for an A over all channels
 */
export function convolutionProduct(A: AdapterTensor, B: AdapterTensor, site: SiteShape): Matrix {
  const { groups } = windowOf(site);
  if (groups > 1) {
    throw new PeftError(
      "NO_DELTA",
      `LORA at "${site.name}" cannot be merged: the convolution has ${groups} groups, and A sees the channels of all of them.`,
      { hint: "Serve the adapter as inputs (makeSwappable), or exclude the module." },
    );
  }
  const asMatrix = ({ dims: [rows = 0], data }: AdapterTensor): Matrix =>
    matrix(rows, rows === 0 ? 0 : data.length / rows, data);
  return multiply(asMatrix(B), asMatrix(A));
}
