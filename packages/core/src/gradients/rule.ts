import type { Builder } from "../graph/builder.ts";
import type { Node, Value } from "../onnx/ir.ts";

/** What a gradient rule sees. */
export interface RuleContext {
  readonly g: Builder;
  /** The node to differentiate. `g.extraOutput(node, i)` makes an output available that the forward did not ask for. */
  readonly node: Node;
  /** The node's inputs, and after them the values that its sub-graphs take from outside. */
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly (Value | null)[];
  /** Gradients of the outputs; null where nothing flows back. At least one is given. */
  readonly dOutputs: readonly (Value | null)[];
  /** The node through which all of a value's gradient comes; null where there are several, or none. */
  readonly onlyUse: (value: Value) => Node | null;
  /** Gradient of a value that lies behind the node; null where nothing flows back. */
  readonly gradientOf: (value: Value) => Value | null;
  /** Which inputs' gradients are wanted. Rules emit nothing for the others. */
  readonly needs: readonly boolean[];
  /**
   * Differentiation inside a sub-graph that a rule builds: gradients of `targets` with respect to each of `wanted`, zeros
   * where no target depends on it.
   */
  readonly differentiate: (
    g: Builder,
    targets: readonly { readonly value: Value; readonly gradient: Value }[],
    wanted: readonly Value[],
  ) => Value[];
}

/** One gradient per input; null where none is wanted or where it is zero everywhere. */
export type Backward = (c: RuleContext) => readonly (Value | null)[];

/** What an operator computes, in simpler ones: one value per output; null for an output that the node does not ask for. */
export type Define = (c: DefinitionContext) => readonly (Value | null)[];

/** What a definition sees. */
export type DefinitionContext = Pick<RuleContext, "g" | "node" | "inputs" | "outputs">;

/**
 * A gradient rule. It emits operators of inference builds only. A gradient may have the output's broadcast shape: the
 * engine sums it to the input's shape (`sumToShape`), so rules do not undo broadcasting themselves.
 */
export type GradientRule =
  | {
      readonly opsets: readonly [from: number, to: number];
      readonly backward: Backward;
      /** Its integer output carries a floating-point gradient: see {@link straightThrough}. */
      readonly quantizes?: true;
    }
  | { readonly opsets: readonly [from: number, to: number]; readonly define: Define }
  | { readonly none: string };

/** A differentiable operator and the versions of its domain for which the rule holds. */
export const rule = (opsets: readonly [number, number], backward: Backward): GradientRule => ({ opsets, backward });

/**
 * An operator that rounds to integers and is differentiated as if it did not: its output carries a gradient, in the type
 * of what was rounded, to the operator that turns it back.
 */
export const straightThrough = (opsets: readonly [number, number], backward: Backward): GradientRule => ({
  opsets,
  backward,
  quantizes: true,
});

/**
 * An operator that is differentiated through its definition: where a gradient is wanted, the node is replaced by simpler
 * ones, forward too, so that what the gradient needs is saved and not computed a second time.
 */
export const definition = (opsets: readonly [number, number], define: Define): GradientRule => ({ opsets, define });

/** An operator without a gradient, and why: integer results, or constant almost everywhere. */
export const noGradient = (reason: string): GradientRule => ({ none: reason });
