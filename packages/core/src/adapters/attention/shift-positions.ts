import { PeftError } from "../../errors.ts";
import type { Builder } from "../../graph/builder.ts";
import type { Model, Node } from "../../onnx/ir.ts";
import type { AdapterParameter, SitePlan } from "../parameters.ts";
import { findPositions } from "./find-positions.ts";

/** The shared tensor that counts the virtual tokens of a plan; null when its method has none of the kind. */
export function virtualTokens(plans: readonly SitePlan[], as: "positions" | "sequence"): AdapterParameter | null {
  const plan = plans.find(({ method }) => method.virtualTokens?.as === as);
  if (!plan) return null;
  const role = plan.method.virtualTokens?.role(plan.config);
  const counted = plan.shared.find((parameter) => parameter.role === role);
  if (!counted) throw new PeftError("METHOD", `${plan.method.type} has no shared tensor "${role}".`);
  return counted;
}

/**
 * Positions of the real tokens behind virtual ones that are in no sequence: a function that gives a node its inputs with
 * positions moved up, or null where nothing changes.
 */
export function shiftPositions(model: Model, plans: readonly SitePlan[]): (g: Builder, node: Node) => string[] | null {
  const counted = virtualTokens(plans, "positions");
  if (!counted) return () => null;
  const uses = new Map<string, number[]>();
  for (const { output, input } of findPositions(model)) uses.set(output, [...(uses.get(output) ?? []), input]);
  return (g, node) => {
    const moved = uses.get(node.outputs[0] ?? "");
    if (!moved) return null;
    const number = g.reshape(g.shapeTensor([g.value(counted.name).shape[0] ?? 0]), []);
    return node.inputs.map((name, i) => {
      if (!moved.includes(i)) return name;
      const position = g.value(name);
      return g.add(position, g.cast(number, position.type)).name;
    });
  };
}
