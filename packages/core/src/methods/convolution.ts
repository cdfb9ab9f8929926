import type { ConvWindow, SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { ForwardInput } from "./forward-input.ts";

// A kernel [out, in / groups, ...places] is worked on as a matrix with a row for every output: [out, in / groups * places].

/** How the site's kernel moves. @throws PeftError PARAMETER */
export const windowOf = ({ name, window }: SiteShape): ConvWindow => {
  if (!window) throw new PeftError("PARAMETER", `The convolution "${name}" comes without its strides and padding.`);
  return window;
};

const productOf = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** Places of a kernel; 1 of a linear module. */
export const placesOf = ({ weightShape }: SiteShape): number => productOf(weightShape.slice(2));

/** Columns of a site's weight as a matrix: in of a linear module, in / groups * places of a convolution. */
export const columnsOf = ({ kind, inFeatures, weightShape }: SiteShape): number =>
  kind === "conv" ? productOf(weightShape.slice(1)) : inFeatures;

/** Why a convolution whose kernel has another number of axes is not adapted, or null. */
export function refusesAxes({ kind, weightShape }: SiteShape, axes: readonly number[]): string | null {
  const own = weightShape.length - 2;
  if (kind !== "conv" || axes.includes(own)) return null;
  return `it is a convolution of ${own} ${own === 1 ? "axis" : "axes"}, and those of ${axes.join(" or ")} are adapted`;
}

/** Why a convolution in groups is not adapted, or null. */
export const refusesGroups = ({ kind, window }: SiteShape): string | null =>
  kind === "conv" && window && window.groups > 1
    ? `it is a convolution in ${window.groups} groups, and the change reaches across them`
    : null;

/** The frozen weight of a linear module or a convolution as a matrix [out, columns]. */
export const weightMatrix = (g: Builder, { site, weight }: ForwardInput): Value =>
  g.reshape(weight(), [site.outFeatures, columnsOf(site)]);

/** What the module makes of x with another weight, given as a matrix [out, columns], and without its bias. */
export const applyMatrix = (g: Builder, x: Value, matrix: Value, site: SiteShape, scale = 1): Value =>
  site.kind === "conv"
    ? g.conv(x, g.reshape(scale === 1 ? matrix : g.mul(matrix, scale), site.weightShape), null, windowOf(site))
    : g.fusedMatMul(x, matrix, { transB: true, alpha: scale });

/** A number for every channel, any shape, so that it meets the channels of x or y: [n], or [n, 1, ...] at a convolution. */
export const perChannel = (g: Builder, vector: Value, channels: number, { kind, weightShape }: SiteShape): Value =>
  g.reshape(vector, [channels, ...(kind === "conv" ? weightShape.slice(2).map(() => 1) : [])]);

/** A convolution's result with another kernel, given as a matrix [out, columns], in the place of the frozen one, and the frozen bias. */
export const withKernel = (g: Builder, { x, site, bias }: ForwardInput, matrix: Value): Value =>
  g.conv(x, g.reshape(matrix, site.weightShape), bias(), windowOf(site));
