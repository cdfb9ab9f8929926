import type { Node } from "../onnx/ir.ts";
import { type GraphIndex, onlyConsumer, operandOf } from "./graph-index.ts";
import type { Site, SiteUse, SublayerShape, SublayerUse } from "./site.ts";

/** Operators that leave what a branch carries as it is, up to a shape, a type or a mask. */
const carries = new Set(["Identity", "Dropout", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"]);
/** Operators that may stand between a branch and its sum: the scale of a layer (ViT), a norm of the branch (Gemma). */
const adjusts = new Set(["Mul", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"]);
const products = new Set(["MatMul", "FusedMatMul", "Einsum"]);

/** Nodes that are looked at for one branch. Attention with rotary positions has some 200; a file without end is hostile. */
const mostNodes = 4096;
/** Steps from a module to its sum, and nesting of sums of several branches. */
const [mostSteps, mostBranches] = [16, 4];

/** What the search needs to know of a graph. */
interface Plan {
  readonly index: GraphIndex;
  readonly position: ReadonlyMap<Node, number>;
  readonly linears: readonly { readonly site: Site; readonly use: SiteUse }[];
  /** Norms by their output. */
  readonly norms: ReadonlyMap<string, SiteUse>;
}

const isFrozen = ({ index: { graph } }: Plan, name: string): boolean => name === "" || graph.initializers.has(name);

/** The nodes behind `from` that come after the one that makes `to`, in graph order; null when `to` is not behind it. */
function between({ index, position }: Plan, from: string, to: string): Node[] | null {
  const producer = index.producers.get(to);
  const first = producer ? (position.get(producer) ?? -1) : -1;
  const seen = new Set<Node>();
  const pending = [from];
  let reached = false;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === to) reached = true;
    const node = index.producers.get(name);
    if (!node || seen.has(node) || (position.get(node) ?? -1) <= first) continue;
    seen.add(node);
    if (seen.size > mostNodes) return null;
    pending.push(...node.inputs);
  }
  if (!reached) return null;
  return [...seen].sort((a, b) => (position.get(a) ?? 0) - (position.get(b) ?? 0));
}

/** The summand of an Add that the branch came from; in a sum of several branches one of the summands' summands. */
function residualIn(
  plan: Plan,
  summand: string,
  branch: string,
  depth = 0,
): { residual: string; nodes: Node[] } | null {
  const nodes = between(plan, branch, summand);
  if (nodes) return { residual: summand, nodes };
  const sum = plan.index.producers.get(summand);
  if (sum?.op !== "Add" || depth >= mostBranches) return null;
  for (const name of sum.inputs) {
    const found = isFrozen(plan, name) ? null : residualIn(plan, name, branch, depth + 1);
    if (found) return found;
  }
  return null;
}

/** Follows a module's result to the residual sum that it goes into, and to nothing else. */
function followToSum(plan: Plan, from: string) {
  let [value, output, isOwn] = [from, from, true];
  for (let step = 0; step < mostSteps; step++) {
    const node = onlyConsumer(plan.index, value);
    if (node?.domain !== "") return null;
    const other = node.inputs.find((name) => name !== value) ?? "";
    const next = node.outputs[0] ?? "";
    if (carries.has(node.op)) {
      if (isOwn) output = next;
    } else if (node.op === "Add" && !isFrozen(plan, other)) {
      const found = residualIn(plan, other, from);
      if (found) return { ...found, output, sum: next };
      isOwn = false; // several branches are added up first
    } else if (adjusts.has(node.op) && isFrozen(plan, other)) isOwn = false;
    else return null;
    value = next;
  }
  return null;
}

/** The value that a module reads, before changes of its shape. */
function carried({ index }: Plan, name: string): string {
  let value = name;
  for (let step = 0; step < mostSteps; step++) {
    const node = index.producers.get(value);
    if (node?.domain !== "" || !carries.has(node.op)) break;
    value = node.inputs[0] ?? "";
  }
  return value;
}

/** Attention multiplies activations with each other; across sequences when one of them does not come from the residual stream. */
function kindOf({ index }: Plan, nodes: readonly Node[], inside: ReadonlySet<string>): SublayerShape["kind"] {
  let kind: SublayerShape["kind"] = "feedForward";
  for (const node of nodes) {
    if (!products.has(node.op) || operandOf(index, node, 0) || operandOf(index, node, 1)) continue;
    if (!node.inputs.slice(0, 2).every((name) => inside.has(name))) return "crossAttention";
    kind = "attention";
  }
  return kind;
}

interface Found {
  readonly kind: SublayerShape["kind"];
  readonly norm: SublayerShape["norm"];
  readonly use: SublayerUse;
  /** The modules that read what the branch is applied to. */
  readonly first: readonly Site[];
}

function sublayerBehind(plan: Plan, use: SiteUse): Found | null {
  const found = followToSum(plan, use.output);
  if (!found) return null;
  const { residual, output, sum } = found;
  const inside = new Set([residual]);
  const nodes = found.nodes.filter((node) => {
    const depends = node.inputs.some((name) => inside.has(name));
    if (depends) for (const name of node.outputs) inside.add(name);
    return depends;
  });
  const members = new Set(nodes);
  const source = carried(plan, residual);
  /** What a module reads, when that is the residual stream or its norm. */
  const start = (input: string): string | null => {
    const value = carried(plan, input);
    if (value === source) return residual;
    const norm = plan.norms.get(value);
    return norm && carried(plan, norm.input) === source ? value : null;
  };
  const first = plan.linears.flatMap(({ site, use: own }) => {
    const input = members.has(own.weight.node) ? start(own.input) : null;
    return input === null ? [] : [{ site, input }];
  });
  const input = first[0]?.input ?? residual;
  const behind = [...plan.norms.values()].find((norm) => norm.input === sum);
  const readers = plan.index.consumers.get(sum) ?? [];
  const isLast = behind !== undefined && !plan.index.pinned.has(sum) && readers.every((n) => behind.nodes.includes(n));
  const norm = input !== residual ? "before" : isLast ? "after" : "none";
  return {
    kind: kindOf(plan, nodes, inside),
    norm,
    use: { input, residual, output, norm: norm === "after" && behind ? behind.nodes : [] },
    first: first.filter((f) => f.input === input).map((f) => f.site),
  };
}

/**
 * The sites with the sub-layers that they begin or end: residual branches, found by what is reachable from where. A linear
 * module ends one when its result goes into a sum whose other summand (or, where several branches are added up, one of
 * them) it was computed from. No names and no architecture are looked at.
 */
export function withSublayers(index: GraphIndex, sites: readonly Site[]): Site[] {
  const usesOf = (kind: Site["kind"]) =>
    sites.filter((site) => site.kind === kind).flatMap((site) => site.uses.map((use) => ({ site, use })));
  const plan: Plan = {
    index,
    position: new Map(index.graph.nodes.map((node, i) => [node, i])),
    linears: usesOf("linear"),
    norms: new Map(usesOf("norm").map(({ use }) => [use.output, use])),
  };
  const last = new Map<SiteUse, Found>();
  for (const { use } of plan.linears) {
    const found = sublayerBehind(plan, use);
    if (found) last.set(use, found);
  }
  const shapes = new Map<Site, SublayerShape>();
  for (const { kind, norm, first } of last.values())
    for (const site of first) shapes.set(site, { kind, norm, place: "first", inFeatures: site.inFeatures });
  for (const { site } of plan.linears) {
    const all = site.uses.map((use) => last.get(use));
    const [found] = all;
    if (!found || all.some((f) => f?.kind !== found.kind || f.norm !== found.norm)) continue;
    const inFeatures = found.first[0]?.inFeatures ?? site.outFeatures;
    shapes.set(site, { kind: found.kind, norm: found.norm, place: "last", inFeatures });
  }
  return sites.map((site) => {
    const sublayer = shapes.get(site);
    if (!sublayer) return site;
    const uses = sublayer.place === "first" ? site.uses : site.uses.map((use) => ({ ...use, ...ends(last.get(use)) }));
    return { ...site, sublayer, uses };
  });
}

const ends = (found: Found | undefined) => (found ? { sublayer: found.use } : {});
