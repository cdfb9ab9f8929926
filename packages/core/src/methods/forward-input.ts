import type { AttentionSizes, SiteShape } from "../adapters/site.ts";
import type { Value } from "../onnx/ir.ts";
import type { ByRole } from "./method.ts";

/** A value that is fed for every row of the batch beside the model's inputs: a graph input [batch, ...shape]. */
export interface RowInput {
  readonly type: "int64" | "float32";
  readonly shape: readonly number[];
}

/** Values [batch, tokens, width] of the model: that of a name, or (null) the last of this shape. */
export interface HiddenStates {
  readonly width: number;
  readonly name: string | null;
}

/** What is multiplied where one parameter holds the matrices of several experts. */
export interface ExpertsInput {
  /** Which factor the matrices are: "right" in x·W with x [..., n, in], "left" in W·x with x [..., in, n]. */
  readonly side: "left" | "right";
  /** Of values [experts, ...] those of the experts that the product is of; all of them where it is of all. */
  select(values: Value): Value;
  /** Where Einsum multiplies: equations of x and A [experts, r, in], and of their product and B [experts, r, out]. */
  readonly equations?: readonly [A: string, B: string];
}

/** What happens at a site. Values are float32, whatever the base computes in. */
export interface ForwardInput {
  /** What the module is applied to. */
  readonly x: Value;
  /** Its result with the bias added. */
  readonly y: Value;
  readonly site: SiteShape;
  /** The frozen weight: [out, in] of a linear module, else in PyTorch's layout. A method that uses it works on the dense matrix. */
  weight(): Value;
  /** The frozen bias [out], or null. */
  bias(): Value | null;
  /** The frozen module applied to another input of x's shape: x'·Wᵀ + c for a linear one. Not for methods with `rowInputs`. */
  base(x: Value): Value;
  /** Mean of a value at the module, [..., n] as x, over the tokens of each sequence; it broadcasts against x. */
  meanOverTokens(value: Value): Value;
  /** The method's values per row [batch, ...], by role; x and y have the batch as their first axis then. */
  readonly rows: ByRole<Value>;
  /** Where the module ends a residual branch. With `place: "sublayer"` x and y are the branch's input and result. */
  readonly sublayer?: SublayerValues;
  /** Where the site is a parameter of experts. */
  readonly experts?: ExpertsInput;
}

/** What a residual branch is added to. Nothing is added to the graph before a method asks. */
export interface SublayerValues {
  /** The residual stream, in the shape of the branch's result. */
  residual(): Value;
  /** The frozen norm that follows their sum, applied to another value; where there is none the value itself. */
  norm(x: Value): Value;
}

/** An attention block as a method sees it. Values are float32. */
export interface AttentionInput {
  readonly site: SiteShape;
  readonly sizes: AttentionSizes;
  /** Its place among the blocks of the adapter, in graph order, and their number. */
  readonly index: number;
  readonly count: number;
  /** [n, keyHeads * width] or [batch, n, keyHeads * width] split into heads: [1 or batch, keyHeads, n, width]. */
  heads(x: Value, width: number): Value;
  /** The frozen projections of other hidden states, [n, hidden] or [batch, n, hidden], split into heads; no positions are rotated in. */
  keys(x: Value): Value;
  values(x: Value): Value;
  /** The hidden states that the block's own keys are projected from. */
  hidden(): Value;
}

/** Keys and values [1 or batch, keyHeads, n, width]; values are asked for where the block weighs its own. */
export interface KeysAndValues {
  readonly keys: Value;
  values(): Value;
}

/** What a method adds to an attention block, before heads are merged. */
export interface AttentionChange {
  /** Stand before the block's own: one softmax over both. They are never masked. */
  readonly join?: KeysAndValues;
  /**
   * Have a softmax of their own, whose probabilities are multiplied by the gate; the result is added, with `behindOutput` as it is
   * behind the block's output projection.
   */
  readonly beside?: KeysAndValues & { readonly gate: Value; readonly behindOutput?: boolean };
}
