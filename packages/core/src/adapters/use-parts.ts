import { isFloating } from "../onnx/element-type.ts";
import type { Node } from "../onnx/ir.ts";
import type { GraphIndex } from "./graph-index.ts";
import { onlyConsumer, operandOf, weightBehind } from "./graph-index.ts";
import type { Operand, SiteKind, SiteUse } from "./site.ts";
import type { SiteName } from "./site-names.ts";

/** A use of a weight, before uses of the same module are brought together. */
export interface FoundUse {
  readonly kind: SiteKind;
  readonly use: SiteUse;
  /** How the operand is read: a matrix as [out, in] or [in, out]; anything else as it is. */
  readonly operandLayout: "out_in" | "in_out";
  /** The module's name, where it follows from the nodes around and not from the use itself. */
  readonly name?: SiteName;
}

/** Operand `i` when it is a floating-point constant, as it is or packed, of the given rank. */
export function weightOperand(index: GraphIndex, node: Node, i: number, rank: (r: number) => boolean): Operand | null {
  const operand = operandOf(index, node, i);
  const weight = weightBehind(index, operand);
  return weight && isFloating(weight.type) && rank(weight.dims.length) ? operand : null;
}

/** Operand `i` when it is a constant with `size` numbers along the last axis and nowhere else. */
export function biasOperand(index: GraphIndex, node: Node, i: number, size: number): Operand | null {
  const operand = weightOperand(index, node, i, (r) => r >= 1);
  const dims = weightBehind(index, operand)?.dims ?? [];
  return dims.at(-1) === size && dims.every((d, axis) => axis === dims.length - 1 || d === 1) ? operand : null;
}

/** The Add of a bias behind `node`, when nothing else reads what `node` makes. */
function biasBehind(index: GraphIndex, node: Node, size: number): { node: Node; bias: Operand } | null {
  const made = node.outputs[0] ?? "";
  const add = onlyConsumer(index, made);
  if (add?.op !== "Add" || add.domain !== "") return null;
  const bias = biasOperand(index, add, add.inputs[0] === made ? 1 : 0, size);
  return bias ? { node: add, bias } : null;
}

/** A use whose product is made by the last of `nodes`: with a bias of its own, or one that is added behind it. */
export function useOf(
  index: GraphIndex,
  nodes: readonly [Node, ...Node[]],
  input: string,
  weight: Operand,
  own: Operand | null,
  size: number,
): SiteUse {
  const last = nodes.at(-1) ?? nodes[0];
  const behind = own ? null : biasBehind(index, last, size);
  const output = (behind?.node ?? last).outputs[0] ?? "";
  return { nodes: behind ? [...nodes, behind.node] : nodes, input, output, weight, bias: own ?? behind?.bias ?? null };
}
