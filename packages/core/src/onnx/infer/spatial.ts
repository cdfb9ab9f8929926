import { addDims, divideExactly, floorDivide, mulDims, subDims } from "../dims.ts";
import type { Dim, Shape } from "../ir.ts";
import { toFloat32Array } from "../tensor.ts";
import type { Infer, InferContext } from "./context.ts";
import { at, axisOf, fail, input, intAttribute, intsAttribute, stringAttribute } from "./context.ts";
import { extentOf, poolCount, type Windows, windowCount, windowsOf } from "./windows.ts";

/** The spatial part of x [batch, channels, ...]. */
function spatialOf(c: InferContext, index = 0): Shape {
  const { shape } = input(c, index);
  return shape.length >= 3 ? shape.slice(2) : fail(c, `input ${index} has no spatial axes.`);
}

const LARGEST = 2 ** 31 - 1;

/** The windows of a node; a file may claim any number for their sizes and steps. */
function windowsAt(c: InferContext, kernel: Shape): Windows {
  const windows = windowsOf(c.node, kernel);
  const rank = spatialOf(c).length;
  const check = (name: string, list: readonly Dim[], least: number): void => {
    const isNumber = (d: Dim): boolean => typeof d === "string" || (Number.isInteger(d) && d >= least && d <= LARGEST);
    if (list.length !== rank || !list.every(isNumber)) {
      fail(c, `${name} should be ${rank} numbers of at least ${least}, received [${list.slice(0, 8).join(", ")}].`);
    }
  };
  check("kernel_shape", windows.kernel, 1);
  check("strides", windows.strides, 1);
  check("dilations", windows.dilations, 1);
  check("pads before", windows.heads, 0);
  check("pads behind", windows.tails, 0);
  return windows;
}

/** An attribute that divides or multiplies sizes. */
function factorAttribute(c: InferContext, name: string): number {
  const value = intAttribute(c.node, name, 1);
  return Number.isInteger(value) && value >= 1 && value <= LARGEST ? value : fail(c, `${name} is ${value}.`);
}

/** Kernel sizes: the attribute, or the weight's shape. */
const kernelOf = (c: InferContext): Shape => intsAttribute(c.node, "kernel_shape") ?? input(c, 1).shape.slice(2);

const conv: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const spatial = spatialOf(c);
  const weight = input(c, 1).shape;
  if (weight.length !== shape.length) fail(c, `the weight has rank ${weight.length}, x has rank ${shape.length}.`);
  const windows = windowsAt(c, kernelOf(c));
  return [{ type, shape: [at(shape, 0), at(weight, 0), ...spatial.map((d, i) => windowCount(windows, i, d))] }];
};

/**
 * Size of one axis: (n - 1) * stride + extent + output padding - pads. SAME_* pad down to n * stride where there is more;
 * output_shape wins over everything.
 */
function transposedSize(c: InferContext, w: Windows, i: number, size: Dim): Dim {
  const wanted = intsAttribute(c.node, "output_shape");
  if (wanted && wanted.length > 0) return at(wanted, wanted.length - w.kernel.length + i);
  const stride = at(w.strides, i);
  const last = addDims(extentOf(w, i), intsAttribute(c.node, "output_padding")?.[i] ?? 0);
  if (w.same !== "none" && typeof last === "number" && last >= stride) return mulDims(size, stride);
  const full = addDims(mulDims(subDims(size, 1), stride), last);
  return subDims(full, at(w.heads, i) + at(w.tails, i));
}

const convTranspose: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const spatial = spatialOf(c);
  const weight = input(c, 1).shape;
  const windows = windowsAt(c, kernelOf(c));
  const channels = mulDims(at(weight, 1), factorAttribute(c, "group"));
  return [{ type, shape: [at(shape, 0), channels, ...spatial.map((d, i) => transposedSize(c, windows, i, d))] }];
};

const pool: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const spatial = spatialOf(c);
  const kernel = intsAttribute(c.node, "kernel_shape") ?? fail(c, "kernel_shape is missing.");
  const windows = windowsAt(c, kernel);
  const result = [...shape.slice(0, 2), ...spatial.map((d, i) => poolCount(c.node, windows, i, d))];
  return [
    { type, shape: result },
    { type: "int64", shape: result },
  ];
};

const globalPool: Infer = (c) => {
  const { type, shape } = input(c, 0);
  return [{ type, shape: shape.map((d, i) => (i < 2 ? d : 1)) }];
};

/** floor(size * scale); exact for symbols where scale is a multiple of 1/64. */
function scaled(c: InferContext, size: Dim, scale: number): Dim {
  if (!(scale > 0 && scale <= LARGEST)) fail(c, `a scale is ${scale}.`);
  if (typeof size === "number") return Math.floor(Math.fround(size * scale));
  for (let divisor = 1; divisor <= 64; divisor *= 2) {
    if (Number.isInteger(scale * divisor)) return floorDivide(mulDims(size, scale * divisor), divisor);
  }
  return c.fresh();
}

/** Sizes under keep_aspect_ratio_policy: one scale for all resized axes, the smallest or the largest. */
function keepAspect(c: InferContext, shape: Shape, axes: readonly number[], sizes: readonly Dim[]): readonly Dim[] {
  const policy = stringAttribute(c.node, "keep_aspect_ratio_policy", "stretch");
  if (policy === "stretch") return sizes;
  const scales = axes.map((axis, i) => Number(sizes[i]) / Number(shape[axis]));
  if (scales.some(Number.isNaN)) return sizes.map(() => c.fresh());
  const scale = Math.fround(policy === "not_larger" ? Math.min(...scales) : Math.max(...scales));
  return axes.map((axis) => Math.round(Math.fround(scale * Number(shape[axis]))));
}

function resizedShape(c: InferContext, scales: readonly number[] | null, sizes: readonly Dim[] | null): Dim[] {
  const { shape } = input(c, 0);
  const axes = intsAttribute(c.node, "axes")?.map((a) => axisOf(c, a, shape.length)) ?? shape.map((_, i) => i);
  const result = [...shape];
  const wanted = sizes && keepAspect(c, shape, axes, sizes);
  axes.forEach((axis, i) => {
    const [size, scale] = [wanted?.[i], scales?.[i]];
    result[axis] = size ?? (scale === undefined ? c.fresh() : scaled(c, at(shape, axis), scale));
  });
  return result;
}

const floatsAt = (c: InferContext, index: number): number[] | null => {
  const tensor = c.tensor(index);
  return tensor && tensor.dims[0] !== 0 ? [...toFloat32Array(tensor)] : null;
};

/** Resize takes (x, roi, scales, sizes) from opset 11, (x, scales) in opset 10. */
const resize: Infer = (c) => {
  const { type } = input(c, 0);
  if (c.inputs.length <= 2) return [{ type, shape: resizedShape(c, floatsAt(c, 1), null) }];
  return [{ type, shape: resizedShape(c, floatsAt(c, 2), c.inputs[3] ? c.ints(3) : null) }];
};

const upsample: Infer = (c) => {
  const attribute = c.node.attributes["scales"];
  const scales = attribute?.type === "floats" ? attribute.value : floatsAt(c, 1);
  return [{ type: input(c, 0).type, shape: resizedShape(c, scales, null) }];
};

/** x [batch, channels, ...], grid [batch, ...places, axes]: y [batch, channels, ...places]. */
const gridSample: Infer = (c) => {
  const { type, shape } = input(c, 0);
  return [{ type, shape: [...shape.slice(0, 2), ...input(c, 1).shape.slice(1, -1)] }];
};

const depthToSpace: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const [batch = 1, channels = 1, ...spatial] = shape;
  const block = factorAttribute(c, "blocksize");
  const fewer = divideExactly(channels, block * block) ?? floorDivide(channels, block * block);
  return [{ type, shape: [batch, fewer, ...spatial.map((d) => mulDims(d, block))] }];
};

const spaceToDepth: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const [batch = 1, channels = 1, ...spatial] = shape;
  const block = factorAttribute(c, "blocksize");
  return [{ type, shape: [batch, mulDims(channels, block * block), ...spatial.map((d) => floorDivide(d, block))] }];
};

/** Convolutions, pools and what else works on x [batch, channels, ...spatial]. */
export const spatial = {
  Conv: conv,
  ConvInteger: (c) => conv(c).map((value) => ({ ...value, type: "int32" as const })),
  ConvTranspose: convTranspose,
  MaxPool: pool,
  AveragePool: pool,
  LpPool: pool,
  GlobalAveragePool: globalPool,
  GlobalMaxPool: globalPool,
  GlobalLpPool: globalPool,
  Resize: resize,
  Upsample: upsample,
  GridSample: gridSample,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
} satisfies Record<string, Infer>;
