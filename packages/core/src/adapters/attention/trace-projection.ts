import { intAttribute } from "../../onnx/infer/context.ts";
import type { Node } from "../../onnx/ir.ts";
import type { FeatureSlice, Projection, Site, SiteUse } from "../site.ts";
import { isMove, type Walk } from "./walk.ts";

/** The linear layers of a model by the value that each use of them makes. */
export type LinearUses = ReadonlyMap<string, { readonly site: Site; readonly use: SiteUse }>;

export const linearUses = (sites: readonly Site[]): LinearUses =>
  new Map(
    sites.flatMap((site) =>
      site.kind === "linear" ? site.uses.map((use) => [use.output, { site, use }] as const) : [],
    ),
  );

/** What keys pass between their projection and the product: heads are split, positions rotated in, earlier tokens put before. */
const single = new Set([
  ...["Identity", "Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Tile", "Dropout"],
  ...["Neg", "Slice", "Split", "Gather", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"],
]);
const several = new Set(["Add", "Sub", "Mul", "Div", "Concat"]);

/** Nodes that are looked at; some thirty lie between a projection with rotary positions and its product. */
const longestWalk = 400;

/**
 * The one linear layer that a value comes from, on the way that queries, keys and values take; null when there is none, or
 * several. Where one layer makes several of them side by side, `slice` says which features are meant.
 */
export function traceProjection(walk: Walk, name: string, uses: LinearUses): Projection | null {
  const pending: { readonly name: string; readonly part: Part }[] = [{ name, part: null }];
  const seen = new Set<string>();
  const found = new Map<string, Projection>();
  for (let next = pending.pop(); next; next = pending.pop()) {
    if (seen.has(next.name)) continue;
    if (seen.size > longestWalk) return null;
    seen.add(next.name);
    const use = uses.get(next.name);
    if (use) {
      const total = use.site.outFeatures;
      if (next.part !== null && (next.part === "unknown" || next.part.total !== total)) return null;
      found.set(use.site.name, { ...use, slice: next.part });
      continue;
    }
    const node = walk.producer(next.name);
    if (!node) continue;
    const part = partOf(walk, node, next.name, next.part);
    const inputs = single.has(node.op) ? node.inputs.slice(0, 1) : several.has(node.op) ? node.inputs : [];
    for (const input of inputs) pending.push({ name: input, part });
  }
  const [projection] = found.values();
  return projection && found.size === 1 ? projection : null;
}

/** Features of a wider product; "unknown" when they do not lie side by side. */
type Part = FeatureSlice | "unknown" | null;

/** The features that a value holds of what its node splits, where the last axis is all of a layer's output. */
function partOf(walk: Walk, node: Node, name: string, before: Part): Part {
  if (node.op === "Split") {
    const input = walk.g.value(node.inputs[0] ?? "");
    const axis = intAttribute(node, "axis", 0);
    if (axis !== -1 && axis !== input.shape.length - 1) return before;
    const total = input.shape.at(-1);
    const sizes = node.outputs.map((output) => (output === "" ? 0 : walk.g.value(output).shape.at(-1)));
    if (typeof total !== "number" || sizes.some((size) => typeof size !== "number")) return "unknown";
    const i = node.outputs.indexOf(name);
    const start = (sizes as number[]).slice(0, i).reduce((a, b) => a + b, 0);
    // Two halves of one head, as rotary positions need them, are no parts of a layer.
    return before === null && input.shape.length <= 3 ? { start, size: sizes[i] as number, total } : before;
  }
  if (node.op === "Gather") {
    // [..., 3, heads, width] picked at the axis of the three.
    const input = walk.g.value(node.inputs[0] ?? "");
    const rank = input.shape.length;
    const given = intAttribute(node, "axis", 0);
    const axis = given < 0 ? given + rank : given;
    const [index] = walk.g.intsOf(walk.g.value(node.inputs[1] ?? "")) ?? [];
    const inner = input.shape.slice(axis);
    if (typeof index !== "number" || inner.some((dim) => typeof dim !== "number")) return "unknown";
    const total = (inner as number[]).reduce((a, b) => a * b, 1);
    const size = total / (inner[0] as number);
    return { start: index * size, size, total };
  }
  return before;
}

/** The linear layer that reads a value once its heads are merged; null when there is none. */
export function traceOutput(walk: Walk, name: string, uses: LinearUses): Projection | null {
  const byInput = new Map([...uses.values()].map((found) => [found.use.input, found]));
  let merged = name;
  for (let steps = 0; steps < 8; steps++) {
    const found = byInput.get(merged);
    if (found) return { ...found, slice: null };
    const next = walk.readers(merged).find((node) => isMove(node));
    if (!next) return null;
    merged = next.outputs[0] ?? "";
  }
  return null;
}
