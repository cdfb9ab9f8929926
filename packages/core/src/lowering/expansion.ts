import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Node, TensorData, Value } from "../onnx/ir.ts";

/** What an expansion sees of the node that it replaces. */
export interface ExpansionContext {
  /** Emits the replacing operators; shapes and types are inferred at once. */
  readonly g: Builder;
  readonly node: Node;
  readonly inputs: readonly (Value | null)[];
  /** True when something reads output `index` of the node, or the graph shows it. */
  readonly isRead: (index: number) => boolean;
  /** Contents of a constant input, else null. */
  readonly constant: (index: number) => TensorData | null;
}

/**
 * A fused operator as plain ones: emits them through the builder and returns one value per output of the node, null for
 * outputs that nobody reads. Pure but for the builder. Null instead of a list leaves the node as it is.
 * @throws PeftError NOT_LOWERED, by {@link refuse}, for a combination of attributes that has no plain form
 */
export type Expansion = (c: ExpansionContext) => readonly (Value | null)[] | null;

/** Input `index`, which the operator requires. */
export function required(c: ExpansionContext, index: number): Value {
  return c.inputs[index] ?? refuse(c, `input ${index} is missing`);
}

/** Says which node cannot be taken apart, and why. */
export function refuse(c: ExpansionContext, reason: string): never {
  throw new PeftError("NOT_LOWERED", `${c.node.op} "${c.node.name}" cannot be trained through: ${reason}.`, {
    hint: "Export the model without this fusion, or with other options of the optimiser.",
    details: { op: c.node.op, domain: c.node.domain, node: c.node.name, reason },
  });
}
