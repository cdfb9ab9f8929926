import { importGraph } from "../../graph/import-graph.ts";
import { dropoutRatio } from "../../graph/import-nodes.ts";
import { intAttribute } from "../../onnx/infer/context.ts";
import type { Model, Node } from "../../onnx/ir.ts";
import { opsetOf } from "../../onnx/opset.ts";
import type { AttentionBlock, AttentionSizes, Projection, ScoreStep, Site } from "../site.ts";
import { type LinearUses, linearUses, traceOutput, traceProjection } from "./trace-projection.ts";
import { isMove, remembered, scaling, unmoved, type Walk, walkOf } from "./walk.ts";

/** How many nodes may lie between softmax and either product; ten do in the longest export known. */
const reach = 24;

const isProduct = (node: Node): boolean =>
  (node.op === "MatMul" && node.domain === "") || (node.op === "FusedMatMul" && node.domain === "com.microsoft");

const plainLeft = (node: Node): boolean =>
  ["transA", "transBatchA", "transBatchB"].every((name) => intAttribute(node, name, 0) === 0);

/** What probabilities pass before they weigh values: rows without a key are zeroed, shared heads stacked, a sink cut off. */
const probabilityOps = new Set(["Identity", "Cast", "Dropout", "Reshape", "Slice", "Mul", "Where"]);

/** The product that probabilities go into as its left factor, and the dropout on the way; null when there is none, or two. */
function valueProduct(walk: Walk, softmax: Node): { readonly node: Node; readonly dropout: number } | null {
  const pending = [{ name: softmax.outputs[0] ?? "", dropout: 0, depth: 0 }];
  const found = new Map<Node, number>();
  const seen = new Set<string>();
  for (let next = pending.pop(); next; next = pending.pop()) {
    const key = `${next.depth}:${next.dropout}:${next.name}`;
    if (seen.has(key)) continue;
    seen.add(key);
    for (const node of walk.readers(next.name)) {
      if (isProduct(node) && node.inputs[0] === next.name) found.set(node, next.dropout);
      else if (node.domain === "" && probabilityOps.has(node.op) && next.depth < reach) {
        const dropout = node.op === "Dropout" ? dropoutRatio(walk.g, node) : next.dropout;
        pending.push({ name: node.outputs[0] ?? "", dropout, depth: next.depth + 1 });
      }
    }
  }
  const [only] = found;
  return only && found.size === 1 ? { node: only[0], dropout: only[1] } : null;
}

interface Scores {
  readonly node: Node;
  readonly steps: readonly ScoreStep[];
}

/**
 * The product of queries and keys that scores come from. Scaling and a soft cap are steps; what masks and position biases
 * add, choose or limit says nothing about other keys and is left out.
 */
function keyProduct(walk: Walk, scores: string): Scores | null {
  const search = remembered((name: string, depth: number): Scores | null => {
    const node = walk.producer(name);
    if (!node || depth > reach) return null;
    if (isProduct(node)) {
      const isConstant = node.inputs.some((input) => walk.g.tensorOf(input) !== null);
      return isConstant ? null : { node, steps: [] };
    }
    if (node.domain !== "") return null;
    const behind = (input: string | undefined): Scores | null => search(input ?? "", depth + 1);
    const onlyOne = (inputs: readonly string[]): Scores | null => {
      const found = inputs.flatMap((input) => behind(input) ?? []);
      return found.length === 1 ? (found[0] ?? null) : null;
    };
    switch (node.op) {
      case "Identity":
      case "Cast":
      case "Reshape":
        return behind(node.inputs[0]);
      case "Tanh":
        return withStep(behind(node.inputs[0]), { op: "Tanh" });
      case "Mul":
      case "Div": {
        const scaled = scaling(walk, node);
        return scaled && withStep(behind(scaled.of), { op: node.op, by: scaled.by });
      }
      case "Where":
        return onlyOne(node.inputs.slice(1));
      case "Add":
      case "Max":
      case "Concat":
        return onlyOne(node.inputs);
      default:
        return null;
    }
  });
  return search(scores, 0);
}

const withStep = (scores: Scores | null, step: ScoreStep): Scores | null =>
  scores && { ...scores, steps: [...scores.steps, step] };

/** Scaling of keys behind their projection, in the order in which it happens, and the heads before they were repeated. */
function keySide(walk: Walk, name: string): { readonly steps: readonly ScoreStep[]; readonly repeated: number | null } {
  const steps: ScoreStep[] = [];
  let repeated: number | null = null;
  for (let at = name; ; ) {
    const node = walk.producer(at);
    const scaled = node ? scaling(walk, node) : null;
    if (node && scaled) {
      steps.unshift({ op: node.op as "Mul" | "Div", by: scaled.by });
      at = scaled.of;
    } else if (isMove(node)) {
      const [input = ""] = node.inputs;
      const { shape } = walk.g.value(input);
      // [batch, shared heads, 1, keys, width] to [batch, shared heads, group, keys, width]
      if (node.op === "Expand" && shape.length === 5 && typeof shape[1] === "number") repeated = shape[1];
      at = input;
    } else return { steps, repeated };
  }
}

const number = (dim: number | string | undefined): number | null => (typeof dim === "number" ? dim : null);

/** The block around a softmax; null when it is no attention of the usual form. */
function blockAt(walk: Walk, softmax: Node, uses: LinearUses): { block: AttentionBlock; sizes: AttentionSizes } | null {
  const { g } = walk;
  const scores = g.value(softmax.inputs[0] ?? "");
  const axis = intAttribute(softmax, "axis", -1);
  if (scores.shape.length !== 4 || (axis !== -1 && axis !== 3)) return null;
  const values = valueProduct(walk, softmax);
  const keys = keyProduct(walk, scores.name);
  if (!values || !keys || !plainLeft(values.node) || !plainLeft(keys.node)) return null;
  if (intAttribute(values.node, "transB", 0) !== 0) return null;
  const [q, k] = keys.node.inputs.map((name) => g.value(name));
  const v = g.value(values.node.inputs[1] ?? "");
  if (q?.shape.length !== 4 || k?.shape.length !== 4 || v.shape.length !== 4) return null;
  const [heads, productHeads, keyWidth, valueWidth] = [
    number(scores.shape[1]),
    number(k.shape[1]),
    number(q.shape[3]),
    number(v.shape[3]),
  ];
  if (heads === null || productHeads === null || keyWidth === null || valueWidth === null) return null;
  const side = keySide(walk, k.name);
  const [query, key, value] = [q, k, v].map((x) => traceProjection(walk, x.name, uses)) as (Projection | null)[];
  const keyHeads = side.repeated ?? productHeads;
  const source = (projection: Projection | null | undefined): string | null =>
    projection ? unmoved(walk, projection.use.input) : null;
  const width = (projection: Projection): number => projection.slice?.size ?? projection.site.outFeatures;
  const fits = (projection: Projection | null | undefined, size: number): Projection | null =>
    projection && width(projection) === size ? projection : null;
  const [ownKey, ownValue] = [fits(key, keyHeads * keyWidth), fits(value, keyHeads * valueWidth)];
  const output = traceOutput(walk, values.node.outputs[0] ?? "", uses);
  const packed = new Set([query, key, value].map((projection) => projection?.site.name ?? null));
  return {
    block: {
      ...{ keyProduct: keys.node, softmax, valueProduct: values.node, keySteps: side.steps, scoreSteps: keys.steps },
      ...{ productHeads, dropout: values.dropout, query: fits(query, heads * keyWidth) },
      ...{ key: ownKey, value: ownValue, output },
    },
    sizes: {
      ...{ heads, keyHeads, keyWidth, valueWidth },
      hidden: ownKey && ownValue ? ownKey.site.inFeatures : null,
      crosses: source(query) !== null && source(key) !== null && source(query) !== source(key),
      isPacked: packed.size === 1 && !packed.has(null),
      hasOutput: output !== null,
    },
  };
}

const parentOf = (name: string): string => name.split(".").slice(0, -1).join(".");

/** The module that holds the projections: "encoder.layer.0.attention.self", "model.layers.0.self_attn", "transformer.h.0.attn". */
function nameOf({ query, key, value }: AttentionBlock, i: number): string {
  const parents = new Set(
    [query, key, value].flatMap((projection) => (projection ? [parentOf(projection.site.name)] : [])),
  );
  const [parent] = parents;
  return parents.size === 1 && parent ? parent : `attention.${i}`;
}

const found = new WeakMap<Model, WeakMap<readonly Site[], readonly Site[]>>();

/**
 * The attention blocks of a model in graph order: a softmax over the last of four axes between a product of queries and keys
 * and one with values, whatever scales, masks and biases lie between. Sites are named after the module that holds the
 * projections.
 * @param model in the form of `prepareModel`.
 * @param sites of the same form: the projections are looked for among them.
 * @throws PeftError UNSUPPORTED_OPERATOR, SHAPE_INFERENCE: sizes of heads follow from the shapes of all values
 */
export function findAttention(model: Model, sites: readonly Site[]): readonly Site[] {
  const known = found.get(model)?.get(sites);
  if (known) return known;
  const walk = walkOf(importGraph(model.graph, opsetOf(model)));
  const uses = linearUses(sites);
  const blocks = walk.g.nodes.flatMap((node) =>
    node.op === "Softmax" && node.domain === "" ? (blockAt(walk, node, uses) ?? []) : [],
  );
  const result = blocks.map(({ block, sizes }, i): Site => {
    const [input = "", output = ""] = [block.softmax.inputs[0], block.valueProduct.outputs[0]];
    return {
      ...{ name: nameOf(block, i), kind: "attention", weightShape: [], hasBias: false, attention: sizes, block },
      ...{ inFeatures: sizes.keyHeads * sizes.keyWidth, outFeatures: sizes.keyHeads * sizes.valueWidth },
      ...{ weight: "", weightLayout: "out_in", fanInFanOut: false, input, output, uses: [], nameSource: "scope" },
    };
  });
  const names = new Set(result.map((site) => site.name));
  const unique =
    names.size === result.length ? result : result.map((site, i) => ({ ...site, name: `${site.name}.${i}` }));
  found.set(model, (found.get(model) ?? new WeakMap()).set(sites, unique));
  return unique;
}
