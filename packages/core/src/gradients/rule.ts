import type { Builder } from "../graph/builder.ts";
import type { Node, Value } from "../onnx/ir.ts";

/** What a gradient rule sees. */
export interface RuleContext {
  readonly g: Builder;
  /** The node to differentiate. `g.extraOutput(node, i)` makes an output available that the forward did not ask for. */
  readonly node: Node;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly (Value | null)[];
  /** Gradients of the outputs; null where nothing flows back. At least one is given. */
  readonly dOutputs: readonly (Value | null)[];
  /** Which inputs' gradients are wanted. Rules emit nothing for the others. */
  readonly needs: readonly boolean[];
}

/** One gradient per input; null where none is wanted or where it is zero everywhere. */
export type Backward = (c: RuleContext) => readonly (Value | null)[];

/**
 * A gradient rule. It emits operators of inference builds only. A gradient may have the output's broadcast shape: the
 * engine sums it to the input's shape (`sumToShape`), so rules do not undo broadcasting themselves.
 */
export type GradientRule =
  | { readonly opsets: readonly [from: number, to: number]; readonly backward: Backward }
  | { readonly none: string };

/** A differentiable operator and the versions of its domain for which the rule holds. */
export const rule = (opsets: readonly [number, number], backward: Backward): GradientRule => ({ opsets, backward });

/** An operator without a gradient, and why: integer results, or constant almost everywhere. */
export const noGradient = (reason: string): GradientRule => ({ none: reason });
