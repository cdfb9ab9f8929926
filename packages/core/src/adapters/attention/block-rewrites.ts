import type { Builder } from "../../graph/builder.ts";
import type { Model, Node } from "../../onnx/ir.ts";
import type { SitePlan } from "../parameters.ts";
import type { ValuesOf } from "../role-values.ts";
import { attentionRewrites } from "./adapt-attention.ts";
import { shiftPositions } from "./shift-positions.ts";

/**
 * Adds the nodes of adapted attention blocks, and those that read the positions of tokens behind virtual ones: a function that
 * says whether it added something in the place of a node.
 */
export function blockRewrites(
  model: Model,
  plans: readonly SitePlan[],
  valuesOf: ValuesOf,
): (g: Builder, node: Node) => boolean {
  const blocks = plans.filter(({ site }) => site.kind === "attention");
  const rewrites = new Map(
    blocks.flatMap((plan, index) => [
      ...attentionRewrites({ plan, index, count: blocks.length, values: (g) => valuesOf(g, plan) }),
    ]),
  );
  const shifted = shiftPositions(model, plans);
  return (g, node) => {
    const rewrite = rewrites.get(node.outputs[0] ?? "");
    const inputs = rewrite ? null : shifted(g, node);
    if (rewrite) rewrite(g, node);
    else if (inputs) g.addNode({ ...node, inputs });
    return rewrite !== undefined || inputs !== null;
  };
}
