import type { Node } from "../onnx/ir.ts";
import type { GraphIndex } from "./graph-index.ts";
import { operandOf } from "./graph-index.ts";
import { pathInName, type SiteName, siteNameOf } from "./site-names.ts";

/**
 * How families of models call the projections beside the one that leads out of attention: by the last part of its path. The
 * first match counts. `inner` is the module between, where there is one.
 */
const families: readonly { readonly out: RegExp; readonly inner: string; readonly names: readonly string[] }[] = [
  { out: /^(.*)\.(?:o_proj|out_proj)$/, inner: "", names: ["q_proj", "k_proj", "v_proj"] },
  { out: /^(.*)\.out_lin$/, inner: "", names: ["q_lin", "k_lin", "v_lin"] },
  { out: /^(.*)\.to_out(?:\.0)?$/, inner: "", names: ["to_q", "to_k", "to_v"] },
  { out: /^(.*)\.o$/, inner: "", names: ["q", "k", "v"] },
  { out: /^(.*)\.output\.dense$/, inner: "self", names: ["query", "key", "value"] },
];

/** One module in the original model too: its name, by the way out. */
const fusedModules: readonly { readonly out: RegExp; readonly name: string }[] = [
  { out: /^(.*)\.c_proj$/, name: "c_attn" },
  { out: /^(.*\.attn)\.proj$/, name: "qkv" },
];

/** How far behind query, key and value the way out is looked for: fifteen nodes lie between, or some sixty that compute shapes too. */
const reach = 80;

/** The linear layer that attention ends in: the first one that query, key and value reach. */
function wayOut(index: GraphIndex, parts: readonly string[]): { path: string; scope: string | null } | null {
  const pending = [...parts];
  const seen = new Set(pending);
  for (let steps = 0; steps < reach && pending.length > 0; steps++) {
    const name = pending.shift() ?? "";
    for (const node of index.consumers.get(name) ?? []) {
      const weight = ["MatMul", "Gemm"].includes(node.op) ? operandOf(index, node, 1) : null;
      if (weight) {
        const { name: path, source } = siteNameOf(index, [node], weight, null);
        return source === "weight" ? null : { path, scope: pathInName(node.inputs[0] ?? "") };
      }
      for (const output of node.outputs) {
        if (!seen.has(output)) pending.push(output);
        seen.add(output);
      }
    }
  }
  return null;
}

/** Where Hugging Face's modules around attention stand, from the way out; null when that says nothing. */
function familyOf(path: string, scope: string | null): string[] | null {
  for (const { out, inner, names } of families) {
    const parent = out.exec(path)?.[1];
    if (parent === undefined) continue;
    // The value that attention makes was traced in the module that holds the projections: "attention.self" in BERT and
    // "attention.attention" in ViT lead out through the same "attention.output.dense".
    const traced = scope !== null && (scope === parent || scope.startsWith(`${parent}.`)) ? scope : null;
    const base = traced ?? (inner === "" ? parent : `${parent}.${inner}`);
    return names.map((name) => `${base}.${name}`);
  }
  return null;
}

/** One module, or one per part. */
export type FusedNames = { readonly whole: SiteName } | { readonly parts: readonly SiteName[] };

/**
 * Names behind a fused projection: three, or one when the original model holds them as one too; null when its own name is right. A
 * weight that the optimiser made has no name; the modules around it have. `qkv_proj` is what ONNX Runtime's GenAI builder calls it.
 */
export function fusedNames(index: GraphIndex, split: Node, own: SiteName): FusedNames | null {
  const parts = (names: readonly string[], source: SiteName["source"]): FusedNames => ({
    parts: names.map((name) => ({ name, source })),
  });
  const parent = /^(.*)\.qkv_proj$/.exec(own.name)?.[1];
  if (parent !== undefined) {
    return parts(
      ["q_proj", "k_proj", "v_proj"].map((name) => `${parent}.${name}`),
      own.source,
    );
  }
  if (own.source !== "weight") return null;
  const out = wayOut(index, split.outputs);
  for (const { out: pattern, name } of fusedModules) {
    const parent = out ? pattern.exec(out.path)?.[1] : undefined;
    if (parent !== undefined) return { whole: { name: `${parent}.${name}`, source: "scope" } };
  }
  const names = out ? familyOf(out.path, out.scope) : null;
  if (names) return parts(names, "scope");
  return parts(
    ["query", "key", "value"].map((name) => `${own.name}.${name}`),
    "weight",
  );
}

/**
 * Names of query, key and value, or of key and value alone, behind a product whose weight is a parameter of attention itself (`in_proj_weight`
 * of nn.MultiheadAttention); null where the product is a module. That it is none shows in the way out, which is traced in the same module or inside it.
 */
export function stackedNames(
  index: GraphIndex,
  parts: readonly string[],
  own: SiteName,
  count: number,
): SiteName[] | null {
  const isInvented = own.source === "weight";
  const out = isInvented ? null : wayOut(index, parts)?.path;
  if (!isInvented && out !== own.name && !out?.startsWith(`${own.name}.`)) return null;
  const base = isInvented ? own.name : `${own.name}.in_proj`;
  return ["query", "key", "value"].slice(-count).map((name) => ({ name: `${base}.${name}`, source: own.source }));
}
