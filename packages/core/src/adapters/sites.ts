import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import { windowsOf } from "../onnx/infer/windows.ts";
import type { Model, Node } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { readTensorBytes } from "../onnx/tensor.ts";
import { initializersOf, partOf } from "../quantization/packed-weight.ts";
import { findUses } from "./find-uses.ts";
import { genAiRenaming } from "./genai-names.ts";
import { type GraphIndex, indexGraph, weightBehind } from "./graph-index.ts";
import { type Naming, renameSites } from "./naming.ts";
import type { ConvWindow, Operand, Site } from "./site.ts";
import { type SiteName, siteNameOf, withOuterModules } from "./site-names.ts";
import type { ShapeOf } from "./stacked-uses.ts";
import { withSublayers } from "./sublayers.ts";
import type { FoundUse } from "./use-parts.ts";

interface Group {
  readonly name: string;
  readonly source: SiteName["source"];
  readonly found: [FoundUse, ...FoundUse[]];
}

/**
 * The modules of a model that adapters can attach to, in graph order: linear layers (MatMul + Add in either order, Gemm,
 * FusedMatMul, transposed or cast weights), embeddings, norms (LayerNormalization, RMS norms, both also written in single
 * operators), convolutions, and the matrices of experts in one parameter, under their Hugging Face module paths. Weights may be packed: behind DequantizeLinear, in
 * MatMulNBits, MatMulBnb4, DynamicQuantizeMatMul, MatMulInteger with its scales, or GatherBlockQuantized. A weight applied at
 * several places is one site with several uses; query, key and value fused into one product are three sites, in `in_proj_weight` of nn.MultiheadAttention too. The nodes named are those of {@link prepareModel}. Weights are not read,
 * except where two of them claim one name.
 *
 * @param options.naming names as in the file (default), or as in a generation of transformers: adapters are saved under the names
 *   of the sites they were made with, and read under all of them.
 * @example
 * const model = await readModel("bert/onnx/model.onnx");
 * findSites(model).map((s) => s.name); // ["bert.embeddings.word_embeddings", ...]
 */
export function findSites(model: Model, { naming = "file" }: { readonly naming?: Naming } = {}): Site[] {
  const prepared = prepareModel(model);
  const index = indexGraph(prepared.graph);
  const rename = genAiRenaming(model);
  const groups = new Map<string, Group>();
  const uses = findUses(index, shapesOf(prepared));
  const names = withOuterModules(
    uses.map((found) => {
      const { nodes, weight, bias } = found.use;
      // What quantises a module's input is named after the value, and so after the module before.
      const own = nodes.filter(({ op }) => op !== "DynamicQuantizeLinear");
      return found.name ?? siteNameOf(index, own, weight, bias);
    }),
  );
  for (const [i, found] of uses.entries()) {
    const { weight } = found.use;
    const { name: given, source } = names[i] as SiteName;
    const name = rename(given);
    const first = repeatedCall(index, groups, found, name);
    if (first) {
      first.found.push(found);
      continue;
    }
    for (let attempt = name; ; attempt = `${name}.${weight.initializer}`) {
      const key = `${found.kind}:${attempt}`;
      const group = groups.get(key);
      if (!group) groups.set(key, { name: attempt, source, found: [found] });
      else if (sameWeight(index, group.found[0], found)) group.found.push(found);
      else if (attempt === name)
        continue; // two weights under one name: the second is told apart by its own
      else throw new PeftError("AMBIGUOUS_SITE", `Two weights of the model are named "${attempt}".`);
      break;
    }
  }
  const sites = [...groups.values()].map((group) => toSite(index, group));
  return renameSites(withSublayers(index, sites), naming);
}

/** Shapes of a model's values, inferred when the first is asked for; nothing is known of a model that cannot be typed. */
function shapesOf(model: Model): ShapeOf {
  let typed: Builder | null | undefined;
  return (name) => {
    if (typed === undefined) {
      try {
        typed = importGraph(model.graph, opsetOf(model));
      } catch (error) {
        if (!PeftError.isInstance(error)) throw error;
        typed = null;
      }
    }
    return typed?.has(name) ? typed.value(name).shape : null;
  };
}

/**
 * The site that a use repeats: TorchScript numbers the calls of one module ("query", "query_1"), so a name that ends so, with
 * the weight and the bias of a site without the number, is a later call of it and no module of its own.
 */
function repeatedCall(
  index: GraphIndex,
  groups: ReadonlyMap<string, Group>,
  found: FoundUse,
  name: string,
): Group | null {
  const base = /^(.*)_\d+$/.exec(name)?.[1];
  const group = base === undefined ? undefined : groups.get(`${found.kind}:${base}`);
  if (!group || !sameWeight(index, group.found[0], found)) return null;
  return group.found[0].use.bias?.initializer === found.use.bias?.initializer ? group : null;
}

/** Exporters sometimes store a weight once per use; equal contents under one name are one module. */
function sameWeight(index: GraphIndex, a: FoundUse, b: FoundUse): boolean {
  if (a.use.weight.slice?.start !== b.use.weight.slice?.start) return false;
  // The matrices of experts are read as they are, or all transposed: one way for one site.
  if (a.kind === "experts" && a.operandLayout !== b.operandLayout) return false;
  const [first, second] = [partsOf(a.use.weight), partsOf(b.use.weight)];
  return first.length === second.length && first.every((name, i) => sameTensor(index, name, second[i] ?? ""));
}

const partsOf = ({ packed, initializer }: Operand): string[] => (packed ? initializersOf(packed) : [initializer]);

function sameTensor(index: GraphIndex, a: string, b: string): boolean {
  if (a === b) return true;
  const [x, y] = [partOf(index.graph, a), partOf(index.graph, b)];
  if (x.type !== y.type || x.dims.length !== y.dims.length || x.dims.some((d, i) => d !== y.dims[i])) return false;
  return Buffer.compare(readTensorBytes(x), readTensorBytes(y)) === 0;
}

function toSite(index: GraphIndex, { name, source, found }: Group): Site {
  const [{ kind, use, operandLayout }] = found;
  const dims = weightBehind(index, use.weight)?.dims ?? [];
  const flipped = operandLayout === "out_in" ? "in_out" : "out_in";
  const weightLayout = kind === "linear" && use.weight.transposed ? flipped : operandLayout;
  // A Linear's weight loses its name when an exporter folds its transpose; one that kept it was [in, out] from the start.
  const isStored = kind === "experts" || use.weight.initializer === `${name}.weight`;
  const fanInFanOut = isMatrix(kind) && weightLayout === "in_out" && isStored;
  const [first = 0, second = 0] = kind === "experts" ? dims.slice(1) : dims;
  const window = kind === "conv" ? convWindow(use.weight.node, dims.length - 2) : null;
  const [allFeatures, inFeatures] = isMatrix(kind)
    ? weightLayout === "out_in"
      ? [first, second]
      : [second, first]
    : kind === "embedding"
      ? [second, first]
      : kind === "norm"
        ? [first, first]
        : [first, second * (window?.groups ?? 1)];
  const outFeatures = use.weight.slice?.size ?? allFeatures;
  const weightShape =
    kind !== "linear" ? [...dims] : fanInFanOut ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  return {
    name,
    kind,
    inFeatures,
    outFeatures,
    weightShape,
    hasBias: use.bias !== null,
    ...(window ? { window } : {}),
    weight: use.weight.initializer,
    ...(use.weight.packed ? { packed: use.weight.packed } : {}),
    weightLayout,
    fanInFanOut,
    ...(use.bias ? { bias: use.bias.initializer } : {}),
    input: use.input,
    output: use.output,
    uses: found.map((f) => f.use),
    nameSource: source,
  };
}

const isMatrix = (kind: FoundUse["kind"]): boolean => kind === "linear" || kind === "experts";

/** How the kernel of a Conv node moves. */
function convWindow(node: Node, axes: number): ConvWindow {
  const { strides, dilations, heads, tails, same } = windowsOf(
    node,
    Array.from({ length: axes }, () => 1),
  );
  const pads = same === "none" ? [...heads, ...tails] : same === "upper" ? "SAME_UPPER" : "SAME_LOWER";
  return { strides, dilations, pads, groups: intAttribute(node, "group", 1) };
}
