import type { Node } from "../onnx/ir.ts";
import type { PackedWeight } from "../quantization/packed-weight.ts";

/** What a module with a weight is; "experts" is one parameter [experts, a, b], the matrices of several experts. */
export type ModuleKind = "linear" | "embedding" | "norm" | "conv" | "experts";

/**
 * What a site is, for the methods that can adapt it: a module, an "attention" block, or the "tokens" of a sequence where they
 * have become vectors.
 */
export type SiteKind = ModuleKind | "attention" | "tokens";

/** Sizes of an attention block. */
export interface AttentionSizes {
  /** Of the queries. */
  readonly heads: number;
  /** Of keys and values: several heads of queries may share one. */
  readonly keyHeads: number;
  /** Width of one head's keys, and of its values. */
  readonly keyWidth: number;
  readonly valueWidth: number;
  /** Width of the hidden states that keys and values are projected from; null where no single linear layer makes either. */
  readonly hidden: number | null;
  /** Keys come from another sequence than queries. */
  readonly crosses: boolean;
  /** One module makes queries, keys and values. */
  readonly isPacked: boolean;
  /** A linear layer takes the result. */
  readonly hasOutput: boolean;
}

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
  /**
   * Dotted path of the module as in Hugging Face checkpoints, e.g. "bert.encoder.layer.0.attention.self.query"; experts: path of the
   * parameter, e.g. "model.layers.0.mlp.experts.down_proj".
   */
  readonly name: string;
  readonly kind: SiteKind;
  /** linear, experts: input width; embedding, tokens: rows; norm: width; conv: input channels; attention: width of all keys. */
  readonly inFeatures: number;
  /** linear, experts: output width; embedding, tokens: width of a row; norm: width; conv: output channels; attention: width of all values. */
  readonly outFeatures: number;
  /** Shape of the module's `weight` in PyTorch: [out, in], [rows, width], [width] or [out, in / groups, ...kernel]; attention: []; experts: as stored. */
  readonly weightShape: readonly number[];
  readonly hasBias: boolean;
  /**
   * The module's weight is [in, out] in PyTorch (GPT-2's Conv1D), and so is `weightShape`; experts: [experts, in, out] and not
   * [experts, out, in]. Default false.
   */
  readonly fanInFanOut?: boolean;
  /** conv: how its kernel moves. */
  readonly window?: ConvWindow;
  /** linear: the residual branch that it begins or ends. */
  readonly sublayer?: SublayerShape;
  /** The entry of targetModules that chose it, or the whole of a regular expression; of "all-linear" none. */
  readonly target?: string;
  /** attention: its sizes. */
  readonly attention?: AttentionSizes;
  /** tokens: why the sequence cannot be made longer. */
  readonly refusal?: string;
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

/** How a product reads a batch of matrices. */
export interface ExpertsUse {
  /** Which factor of the product the matrices are: "right" in x·W, "left" in W·x. */
  readonly side: "left" | "right";
  /** The Gather or GatherND that picks matrices; null where all of them are multiplied. */
  readonly selection: Node | null;
  /** Where Einsum multiplies: equations of x and A [experts, r, in], and of their product and B [experts, r, out]. */
  readonly equations?: readonly [A: string, B: string];
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
  /** experts: how the product reads them. */
  readonly experts?: ExpertsUse;
}

/** What is done to a product of queries and keys before the softmax, or to keys before the product. */
export interface ScoreStep {
  readonly op: "Mul" | "Div" | "Tanh";
  /** Name of the one number that multiplies or divides. */
  readonly by?: string;
}

/** A linear layer that makes the queries, keys or values of an attention block, or takes its result. */
export interface Projection {
  readonly site: Site;
  readonly use: SiteUse;
  /** Its own output features, where one layer makes several of them. */
  readonly slice: FeatureSlice | null;
}

/** The nodes of softmax(steps(Q·Kᵀ) + masks)·V, and the layers around. */
export interface AttentionBlock {
  /** Q·Kᵀ, the softmax, and the product of probabilities and V. */
  readonly keyProduct: Node;
  readonly softmax: Node;
  readonly valueProduct: Node;
  readonly keySteps: readonly ScoreStep[];
  readonly scoreSteps: readonly ScoreStep[];
  /** Heads that K and V have where they are multiplied: all those of the queries when shared ones were repeated. */
  readonly productHeads: number;
  /** Dropout of the probabilities in training. */
  readonly dropout: number;
  readonly query: Projection | null;
  readonly key: Projection | null;
  readonly value: Projection | null;
  readonly output: Projection | null;
}

/** An input of a model that has an entry for every token: [batch, tokens]. */
export interface TokenInput {
  readonly name: string;
  /** What it says of a virtual token. */
  readonly fill: "token" | "one" | "zero" | "position";
  /** The id that stands for one; its vector is replaced. */
  readonly token?: number;
}

/** The sequence that a model reads. */
export interface TokenSequence {
  /** The symbol of its length. */
  readonly length: string;
  readonly inputs: readonly TokenInput[];
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
  /** attention: its nodes; it has no weight and no `uses` of its own. */
  readonly block?: AttentionBlock;
  /** tokens: the inputs that have to be longer by as many entries as there are virtual tokens. */
  readonly sequence?: TokenSequence;
  /** Where the name comes from; "weight" means that nothing but the initialiser's own name was there. */
  readonly nameSource: "scope" | "parameter" | "weight";
}
