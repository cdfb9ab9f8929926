import type { Node } from "../onnx/ir.ts";
import type { PackedWeight } from "../quantization/packed-weight.ts";

/** What a site is, for the methods that can adapt it. */
export type SiteKind = "linear" | "embedding" | "norm" | "conv";

/** How the kernel of a convolution moves: ONNX's attributes, one number per spatial axis; pads [heads..., tails...]. */
export interface ConvWindow {
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[] | "SAME_UPPER" | "SAME_LOWER";
  readonly groups: number;
}

/** A residual branch of a transformer layer, as the linear modules at its two ends see it. */
export interface SublayerShape {
  readonly kind: "attention" | "crossAttention" | "feedForward";
  /** "first": the module reads what the branch is applied to; "last": its result is added to the residual stream. */
  readonly place: "first" | "last";
  /** Width of what the branch is applied to. */
  readonly inFeatures: number;
  /** The norm of the layer: of the branch's input, of its sum with the residual stream, or neither. */
  readonly norm: "before" | "after" | "none";
}

/** What a method needs to know of a site to size its parameters; no graph needed. */
export interface SiteShape {
  /** Dotted path of the module as in Hugging Face checkpoints, e.g. "bert.encoder.layer.0.attention.self.query". */
  readonly name: string;
  readonly kind: SiteKind;
  /** linear: input width; embedding: rows; norm: width; conv: input channels. */
  readonly inFeatures: number;
  /** linear: output width; embedding: width of a row; norm: width; conv: output channels. */
  readonly outFeatures: number;
  /** Shape of the module's `weight` in PyTorch: [out, in], [rows, width], [width] or [out, in / groups, ...kernel]. */
  readonly weightShape: readonly number[];
  readonly hasBias: boolean;
  /** The module's weight is [in, out] in PyTorch (GPT-2's Conv1D), and so is `weightShape`. Default false. */
  readonly fanInFanOut?: boolean;
  /** conv: how its kernel moves. */
  readonly window?: ConvWindow;
  /** linear: the residual branch that it begins or ends. */
  readonly sublayer?: SublayerShape;
}

/** One place where a node reads a weight or bias. */
export interface Operand {
  readonly node: Node;
  /** Which input of the node. */
  readonly index: number;
  /** The initialiser behind it, through Identity, Cast and Transpose; of a packed weight that of its integers. */
  readonly initializer: string;
  /** True when the operand is the transpose of the initialiser. */
  readonly transposed: boolean;
  /** How the weight is stored where it is not a floating-point initialiser. */
  readonly packed?: PackedWeight;
  /** Where one product makes the outputs of several modules (query, key, value): the module's own output features. */
  readonly slice?: FeatureSlice;
  /** Where an operator reads packed weights only: the product that takes its place when the weight becomes a float one. */
  readonly product?: FloatProduct;
}

/** Output features `start` to `start + size` of `total`: rows of the weight in PyTorch's layout, entries of the bias. */
export interface FeatureSlice {
  readonly start: number;
  readonly size: number;
  readonly total: number;
}

/** What a fused operator or a cluster of nodes computes, said with a floating-point weight. */
export interface FloatProduct {
  /** The node whose first output is the product. */
  readonly node: Node;
  /** MatMul reads the weight as [in, out], Gather its rows, Conv as [out, in / groups, ...kernel]. */
  readonly op: "MatMul" | "Gather" | "Conv";
  /** Name of the left factor, of the indices, or of what is convolved. */
  readonly input: string;
  /** How the kernel moves. */
  readonly attributes?: Node["attributes"];
  /** Which input of `node` is a bias that it adds. */
  readonly biasInput?: number;
}

/** Names of the values of a residual branch, for the use that ends it. */
export interface SublayerUse {
  /** What its first linear modules read: the residual stream, or its norm. */
  readonly input: string;
  /** The residual stream that its result is added to. */
  readonly residual: string;
  /** Its result, dropped out and in the residual stream's shape. */
  readonly output: string;
  /** The nodes of the norm of the sum, where the layer ends in one. */
  readonly norm: readonly Node[];
}

/** One application of a module: a weight used at several nodes has several. */
export interface SiteUse {
  /** The nodes of this use, in order; the last one makes `output`, a Split beside the outputs of other modules. */
  readonly nodes: readonly Node[];
  /** Name of the value the module is applied to. */
  readonly input: string;
  /** Name of the module's result with its bias added. */
  readonly output: string;
  readonly weight: Operand;
  readonly bias: Operand | null;
  /** Where the module ends a residual branch. */
  readonly sublayer?: SublayerUse;
}

/** A place an adapter can attach: one module of the original model. */
export interface Site extends SiteShape {
  /** Name of the weight's initialiser (of the first use); of a packed weight that of its integers. */
  readonly weight: string;
  /** How the weight is stored where it is not a floating-point initialiser: it is dequantised when it is read. */
  readonly packed?: PackedWeight;
  /**
   * How the initialiser holds a matrix. "out_in" is PyTorch's Linear; "in_out" a folded transpose, or GPT-2's Conv1D.
   * Embeddings, norms and convolutions are "out_in": as in PyTorch.
   */
  readonly weightLayout: "out_in" | "in_out";
  readonly fanInFanOut: boolean;
  readonly bias?: string;
  /** Input and biased output of the first use. */
  readonly input: string;
  readonly output: string;
  readonly uses: readonly SiteUse[];
  /** Where the name comes from; "weight" means that nothing but the initialiser's own name was there. */
  readonly nameSource: "scope" | "parameter" | "weight";
}
