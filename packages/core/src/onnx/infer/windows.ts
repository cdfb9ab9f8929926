import { addDims, floorDivide, mulDims, subDims } from "../dims.ts";
import type { Dim, Node } from "../ir.ts";
import { at, intAttribute, intsAttribute, stringAttribute } from "./context.ts";

/** How convolutions and pools slide over the spatial axes; one entry per axis. */
export interface Windows {
  readonly kernel: readonly Dim[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Padding before and behind each axis as written in the file; zeros where `auto` decides. */
  readonly heads: readonly number[];
  readonly tails: readonly number[];
  /** Where SAME_UPPER and SAME_LOWER put the odd one of their padding; "none" for explicit pads and VALID. */
  readonly same: "upper" | "lower" | "none";
}

/** Reads the attributes of a node over `kernel.length` spatial axes. */
export function windowsOf(node: Node, kernel: readonly Dim[]): Windows {
  const rank = kernel.length;
  const each = (name: string): readonly number[] => {
    const given = intsAttribute(node, name);
    return given && given.length > 0 ? given : kernel.map(() => 1);
  };
  const auto = stringAttribute(node, "auto_pad", "NOTSET");
  const given = intsAttribute(node, "pads");
  const pads = auto === "NOTSET" && given && given.length > 0 ? given : Array.from({ length: 2 * rank }, () => 0);
  return {
    kernel,
    strides: each("strides"),
    dilations: each("dilations"),
    heads: pads.slice(0, rank),
    tails: pads.slice(rank),
    same: auto === "SAME_UPPER" ? "upper" : auto === "SAME_LOWER" ? "lower" : "none",
  };
}

/** Entries of axis `i` that a window spans: dilation * (kernel - 1) + 1. */
export const extentOf = (w: Windows, i: number): Dim =>
  addDims(mulDims(subDims(at(w.kernel, i), 1), at(w.dilations, i)), 1);

/** a / b rounded up. */
export const ceilDivide = (a: Dim, b: number): Dim => floorDivide(addDims(a, b - 1), b);

/** Number of windows along axis `i` of a convolution: n / stride rounded up for SAME, else those that fit. */
export function windowCount(w: Windows, i: number, size: Dim): Dim {
  const stride = at(w.strides, i);
  if (w.same !== "none") return ceilDivide(size, stride);
  const padded = addDims(size, at(w.heads, i) + at(w.tails, i));
  return addDims(floorDivide(subDims(padded, extentOf(w, i)), stride), 1);
}

/**
 * Number of windows along axis `i` of a pool. `ceil_mode` rounds up, but every window starts inside the input or the
 * padding before it, as in PyTorch: floor(min(a, b) / stride) + 1 with a = n + pads - extent + stride - 1 and
 * b = n + head - 1, whose difference is constant. ONNX Runtime pads for SAME as if there were no dilation.
 */
export function poolCount(node: Node, w: Windows, i: number, size: Dim): Dim {
  const stride = at(w.strides, i);
  const extent = extentOf(w, i);
  if (w.same !== "none") {
    const missing = subDims(at(w.kernel, i), extent);
    return addDims(ceilDivide(size, stride), floorDivide(missing, stride));
  }
  if (intAttribute(node, "ceil_mode", 0) === 0) return windowCount(w, i, size);
  const before = addDims(size, at(w.heads, i));
  const beyond = subDims(at(w.tails, i) + stride - 1, extent);
  return addDims(floorDivide(addDims(before, typeof beyond === "number" ? Math.min(beyond, -1) : beyond), stride), 1);
}

/**
 * Padding of axis `i`. SAME pads so that the last of ceil(n / s) windows fits: max(0, (ceil(n / s) - 1) s + e - n) in all,
 * with stride s and extent e. For a symbol n and e < s that is the number of t in 1..e-1 with (n - 1) mod s < t, each
 * counted by floor((n - 1) / s) - floor((n - 1 - t) / s).
 */
export function paddingOf(w: Windows, i: number, size: Dim): { head: Dim; tail: Dim } {
  if (w.same === "none") return { head: at(w.heads, i), tail: at(w.tails, i) };
  const [stride, extent] = [at(w.strides, i), Number(extentOf(w, i))];
  let total: Dim = 0;
  if (typeof size === "number") total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + extent - size);
  else if (extent >= stride) {
    total = subDims(addDims(mulDims(subDims(ceilDivide(size, stride), 1), stride), extent), size);
  } else {
    const full = floorDivide(addDims(size, stride - 1), stride);
    for (let t = 1; t < extent; t++) {
      total = addDims(total, subDims(full, floorDivide(addDims(size, stride - 1 - t), stride)));
    }
  }
  const less = floorDivide(total, 2);
  const more = subDims(total, less);
  return w.same === "upper" ? { head: less, tail: more } : { head: more, tail: less };
}
