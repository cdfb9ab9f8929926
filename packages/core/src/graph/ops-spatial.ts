import { PeftError } from "../errors.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import type { AttributeInput } from "./attributes.ts";
import type { GraphCore } from "./core.ts";
import type { elementwiseOps } from "./ops-elementwise.ts";
import type { reduceOps } from "./ops-reduce.ts";
import type { shapeOps } from "./ops-shape.ts";

/** One number for all spatial axes, or one for each. */
export type PerAxis = number | readonly number[];

export interface WindowOptions {
  /** Default 1. */
  readonly strides?: PerAxis;
  /** Default 1. */
  readonly dilations?: PerAxis;
  /** Zeros around: one number for every side, ONNX's list [heads..., tails...], or as many as keep n / stride windows. Default 0. */
  readonly pads?: PerAxis | "SAME_UPPER" | "SAME_LOWER";
}

export interface ConvOptions extends WindowOptions {
  /** Channels are cut into this many parts that do not see each other. Default 1. */
  readonly groups?: number;
}

export interface PoolOptions extends WindowOptions {
  /** Windows that reach over the end count. Default false. */
  readonly ceilMode?: boolean;
}

export interface ResizeOptions {
  /** Default "nearest". */
  readonly mode?: "nearest" | "linear" | "cubic";
  /** Sizes of the spatial axes, numbers or symbols... */
  readonly sizes?: readonly Dim[];
  /** ...or factors. */
  readonly scales?: PerAxis;
  /** Default "asymmetric" for nearest (as PyTorch's interpolate), "half_pixel" else. */
  readonly coordinates?: "half_pixel" | "pytorch_half_pixel" | "align_corners" | "asymmetric";
  /** Default "floor", which is PyTorch's. */
  readonly nearest?: "round_prefer_floor" | "round_prefer_ceil" | "floor" | "ceil";
  /** Low-pass filter before shrinking, linear and cubic only. Needs opset 18. Default false. */
  readonly antialias?: boolean;
}

export interface GridSampleOptions {
  readonly mode?: "nearest" | "linear" | "cubic";
  readonly padding?: "zeros" | "border" | "reflection";
  /** -1 and 1 are the middles of the outermost pixels instead of their outer edges. Default false. */
  readonly alignCorners?: boolean;
}

const perAxis = (value: PerAxis, count: number): number[] =>
  typeof value === "number" ? Array.from({ length: count }, () => value) : [...value];

function windowAttributes(o: WindowOptions, rank: number): Record<string, AttributeInput> {
  const { strides = 1, dilations = 1, pads = 0 } = o;
  return {
    strides: perAxis(strides, rank),
    dilations: perAxis(dilations, rank),
    ...(typeof pads === "string" ? { auto_pad: pads } : { pads: perAxis(pads, 2 * rank) }),
  };
}

/** Kernel sizes where the weight says them. */
function kernelShape(weight: Value): Record<string, AttributeInput> {
  const sizes = weight.shape.slice(2);
  return sizes.every((d): d is number => typeof d === "number") ? { kernel_shape: sizes } : {};
}

/** Operators on x [batch, channels, ...spatial]. */
export function spatialOps(
  core: GraphCore,
  shapes: ReturnType<typeof shapeOps>,
  elementwise: ReturnType<typeof elementwiseOps>,
  reduce: ReturnType<typeof reduceOps>,
) {
  const one = (op: string, inputs: readonly (Value | null)[], attributes: Record<string, AttributeInput> = {}): Value =>
    core.op(op, inputs, attributes)[0] as Value;
  const pool =
    (op: string) =>
    (x: Value, kernel: PerAxis, options: PoolOptions & { countIncludePad?: boolean } = {}): Value => {
      const rank = x.shape.length - 2;
      // Averages of opset 11 to 18 know no dilations, and 1 need not be said.
      const { dilations, ...rest } = windowAttributes(options, rank);
      return one(op, [x], {
        kernel_shape: perAxis(kernel, rank),
        ...rest,
        ...(options.dilations === undefined || dilations === undefined ? {} : { dilations }),
        ...(options.ceilMode ? { ceil_mode: 1 } : {}),
        ...(options.countIncludePad ? { count_include_pad: 1 } : {}),
      });
    };
  const averagePool = pool("AveragePool");
  const maxPool = pool("MaxPool");
  return {
    /** Convolution of x [batch, in, ...n] with weight [out, in / groups, ...kernel] and bias [out]. */
    conv: (x: Value, weight: Value, bias: Value | null = null, options: ConvOptions = {}): Value =>
      one("Conv", [x, weight, bias], {
        ...kernelShape(weight),
        ...windowAttributes(options, x.shape.length - 2),
        group: options.groups ?? 1,
      }),
    /** Its transpose: x [batch, in, ...n], weight [in, out / groups, ...kernel], result [batch, out, (n - 1) * stride + kernel + outputPadding - pads]. */
    convTranspose: (
      x: Value,
      weight: Value,
      bias: Value | null = null,
      options: ConvOptions & { readonly outputPadding?: PerAxis } = {},
    ): Value =>
      one("ConvTranspose", [x, weight, bias], {
        ...kernelShape(weight),
        ...windowAttributes(options, x.shape.length - 2),
        group: options.groups ?? 1,
        ...(options.outputPadding === undefined
          ? {}
          : { output_padding: perAxis(options.outputPadding, x.shape.length - 2) }),
      }),
    /** Largest entry of every window. */
    maxPool: (x: Value, kernel: PerAxis, options: PoolOptions = {}): Value => maxPool(x, kernel, options),
    /** Mean of every window; padding counts as zeros when `countIncludePad` (PyTorch's default), else not at all (ONNX's, and ours). */
    averagePool,
    /** Mean over all places: [batch, channels, 1, ...]. */
    globalAveragePool: (x: Value): Value => one("GlobalAveragePool", [x]),
    /** x at another size, batch and channels as they are. @throws PeftError OPTION_INVALID without sizes or scales, or with both */
    resize(x: Value, options: ResizeOptions): Value {
      const { mode = "nearest", sizes, scales, nearest = "floor" } = options;
      if ((sizes === undefined) === (scales === undefined)) {
        throw new PeftError(
          "OPTION_INVALID",
          "Expected either sizes or scales to resize to, received both or neither.",
        );
      }
      const rank = x.shape.length - 2;
      const factors = scales === undefined ? [] : [1, 1, ...perAxis(scales, rank)];
      const target = sizes ? [shapes.shapeTensor([...x.shape.slice(0, 2), ...sizes], x)] : [];
      return one("Resize", [x, core.constant("float32", []), core.constant("float32", factors), ...target], {
        mode,
        coordinate_transformation_mode: options.coordinates ?? (mode === "nearest" ? "asymmetric" : "half_pixel"),
        ...(mode === "nearest" ? { nearest_mode: nearest } : {}),
        ...(options.antialias ? { antialias: 1 } : {}),
      });
    },
    /** x [batch, channels, ...n] read at grid [batch, ...places, axes], numbers from -1 to 1, the last axis first. Opset 16. */
    gridSample(x: Value, grid: Value, options: GridSampleOptions = {}): Value {
      const { mode = "linear", padding = "zeros", alignCorners = false } = options;
      const old = { nearest: "nearest", linear: "bilinear", cubic: "bicubic" } as const;
      return one("GridSample", [x, grid], {
        mode: core.opset >= 20 ? mode : old[mode],
        padding_mode: padding,
        align_corners: alignCorners ? 1 : 0,
      });
    },
    /** [batch, c * b * b, h, w] as [batch, c, h * b, w * b]; "CRD" is PyTorch's pixel_shuffle. */
    depthToSpace: (x: Value, blocksize: number, mode: "DCR" | "CRD" = "CRD"): Value =>
      one("DepthToSpace", [x], { blocksize, mode }),
    /** [batch, c, h * b, w * b] as [batch, c * b * b, h, w], the place in the block outside the channels. */
    spaceToDepth: (x: Value, blocksize: number): Value => one("SpaceToDepth", [x], { blocksize }),
    /**
     * Batch normalisation with the statistics of the batch: y = (x - mean) / sqrt(variance + epsilon) * scale + bias per channel
     * of x [batch, channels, ...]. `mean` and `variance` [channels] are to be small outputs of the training graph: the host keeps
     * running ones, in PyTorch's way running += momentum * (mean - running), and variance * n / (n - 1) for the variance, with n the
     * entries of a channel. Gradients flow through the statistics. The batch must not be cut into micro-batches. Written in single
     * operators: BatchNormalization in training mode is as fast forward and backward together, and its running statistics lie in
     * the buffers of those it is given, which other nodes may read.
     */
    batchNormTraining(x: Value, scale: Value, bias: Value, epsilon = 1e-5): { y: Value; mean: Value; variance: Value } {
      const rank = x.shape.length;
      const others = Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== 1);
      const asColumn = (v: Value): Value =>
        shapes.unsqueeze(
          v,
          Array.from({ length: rank - 2 }, (_, i) => i + 1),
        );
      const mean = reduce.reduceMean(x, others);
      const centred = elementwise.sub(x, mean);
      const variance = reduce.reduceMean(elementwise.mul(centred, centred), others);
      const inverse = elementwise.reciprocal(elementwise.sqrt(elementwise.add(variance, epsilon)));
      const factor = elementwise.mul(inverse, asColumn(scale));
      const y = elementwise.add(elementwise.mul(centred, factor), asColumn(bias));
      const flat = (v: Value): Value => shapes.squeeze(v, others);
      return { y, mean: flat(mean), variance: flat(variance) };
    },
  };
}
