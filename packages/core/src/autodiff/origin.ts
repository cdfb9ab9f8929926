import type { Node } from "../onnx/ir.ts";

/** Metadata of a node of the backward pass: the first output of the forward node whose gradient it belongs to. */
const KEY = "onnx-peft.gradient-of";

export function markOrigin(nodes: readonly Node[], from: number, forward: Node): void {
  const name = forward.outputs.find((output) => output !== "");
  if (name === undefined) return;
  for (let i = from; i < nodes.length; i++) {
    const { metadata } = nodes[i] as Node;
    metadata[KEY] ??= name;
  }
}

/** The first output of the forward node that a node of a backward pass belongs to; undefined for every other node. */
export const originOf = (node: Node): string | undefined => node.metadata[KEY];
