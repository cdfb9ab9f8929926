import { PeftError } from "../errors.ts";
import { chooseBranches } from "../lowering/choose-branches.ts";
import { isHalf } from "../lowering/float-types.ts";
import { freeSizes } from "../lowering/free-sizes.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { declared, type FrozenSite, type OperandChange, whyNoDelta } from "../methods/method.ts";
import type { Graph, Model, Node, TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { tiedDims } from "../onnx/tied.ts";
import { partOf } from "../quantization/packed-weight.ts";
import { type AdaptedSite, type Adapter, adaptedSites } from "./adapter.ts";
import { branchModels, isSameTensor } from "./branch-models.ts";
import { dropUnread, replaceProduct } from "./float-product.ts";
import { type GraphIndex, indexGraph, weightBehind } from "./graph-index.ts";
import { collectSlices, operandsOf } from "./merge-slices.ts";
import { frozenSite, transposed } from "./operands.ts";
import { operandType, readsFlipped } from "./replace-operands.ts";
import { requireDelta } from "./require-delta.ts";
import type { Operand, Site } from "./site.ts";
import { findSites } from "./sites.ts";

/**
 * A copy of the model with an adapter's change written into the weights; it needs no adapter any more. The given model
 * stays as it was (weights that do not change are shared with it). Weights that other nodes share are copied first.
 * Several adapters are merged one after the other: `[a, b].reduce((m, adapter) => mergeAdapter(m, adapter), model)`.
 * A packed weight (MatMulNBits and the like) that changes becomes a floating-point one, read by a MatMul or Gather; the
 * others stay packed. A file with several branches (decoder_model_merged.onnx) is changed in all of them. Costs out * r * in multiplications per LoRA site and memory for the changed weights.
 *
 * @throws PeftError ADAPTER_MISMATCH; BASE_MISMATCH when the adapter belongs to another base model; BRANCHES; NO_DELTA when the method cannot be written as weights; MERGE_NOT_FINITE when a new
 *   weight holds NaN or infinity
 * @example
 * await writeModel(mergeAdapter(model, adapter), "merged.onnx");
 */
export const mergeAdapter = (model: Model, adapter: Adapter): Model => applyDeltas(model, adapter, 1, null);

/**
 * The inverse of {@link mergeAdapter}: subtracts what was added (exact to float32 rounding) and puts back what was
 * replaced. The exact way is to keep the original model, which merging does not change.
 * @param base the model before this adapter was merged; needed for methods that replace weights (BitFit, LN tuning,
 *   modulesToSave) and for those whose change depends on the weight (OFT, IA3).
 * @throws PeftError UNMERGE_NEEDS_BASE and those of {@link mergeAdapter}
 */
export const unmergeAdapter = (merged: Model, adapter: Adapter, base: Model | null = null): Model =>
  applyDeltas(merged, adapter, -1, base);

function applyDeltas(original: Model, adapter: Adapter, sign: 1 | -1, base: Model | null): Model {
  requireDelta(adapter, "merged");
  const { models, combine } = branchModels(original);
  const bases = base ? branchModels(base).models : [];
  const [trained, ...others] = models.map((model, i) => openTarget(model, bases[i] ?? null)) as [Target, ...Target[]];
  for (const plan of adaptedSites(trained.graph, [...trained.sites.values()], adapter, trained.madeFrom)) {
    const { site, method, config, tensors } = plan;
    const reason = whyNoDelta(method, config);
    if (!method.delta || reason !== null) {
      throw new PeftError("NO_DELTA", `${method.type} cannot be merged: ${reason}.`);
    }
    const frozen = frozenSite(trained.graph, site);
    const before = trained.bases?.get(site.name) ?? null;
    if (sign === -1 && needsWeight(plan) && !before) throw needsBase(method.type, site.name);
    const delta = method.delta(tensors, config, site, (sign === -1 && before) || frozen);
    const elsewhere = others.flatMap((target) => {
      const own = siteIn(target, trained, site);
      return own ? [{ target, own, frozen: frozenSite(target.graph, own) }] : [];
    });
    // The bias first: a fused operator that holds one is replaced together with its weight.
    for (const which of ["bias", "weight"] as const) {
      const change = delta[which];
      if (!change) continue;
      for (const { target, own, frozen: weights } of [{ target: trained, own: site, frozen }, ...elsewhere]) {
        const values = changed(plan, which, change, sign, weights, target.bases?.get(site.name) ?? null);
        if (operandsOf(own, which)[0]?.slice) target.slices.add(target.graph, own, which, values);
        else writeOperand(target.index, own, which, values);
      }
    }
  }
  return combine([trained, ...others].map(closeTarget));
}

/** One branch of a model while its weights are changed; a model without branches is one. */
interface Target {
  readonly original: Model;
  readonly model: Model;
  readonly graph: Graph;
  readonly index: GraphIndex;
  readonly sites: ReadonlyMap<string, Site>;
  readonly slices: ReturnType<typeof collectSlices>;
  /** Sites of the base model, for unmerging. */
  readonly bases: ReadonlyMap<string, FrozenSite> | null;
  readonly madeFrom: (site: Site) => FrozenSite;
}

function openTarget(given: Model, base: Model | null): Target {
  const original = freeSizes(chooseBranches(given)).model;
  const model = prepareModel(original);
  const graph = copyGraph(model.graph);
  const list = findSites({ ...model, graph });
  const bases = base ? new Map(findSites(base).map((s) => [s.name, frozenSite(prepareModel(base).graph, s)])) : null;
  return {
    ...{ original, model, graph, bases },
    index: indexGraph(graph),
    sites: new Map(list.map((site) => [site.name, site])),
    slices: collectSlices(),
    madeFrom: (site) => bases?.get(site.name) ?? frozenSite(graph, site),
  };
}

function closeTarget({ original, model, graph, index, slices }: Target): Model {
  for (const { whole, which, values } of slices.all()) writeOperand(index, whole, which, values());
  dropUnread(graph, indexGraph(model.graph));
  return withChanges(original, model, graph);
}

/**
 * The module of that name in another branch. A branch may lack it: where a cache holds keys of the encoder, nothing makes them.
 * @throws PeftError BRANCHES when the branch reads the module's weight and has no such module
 */
function siteIn(target: Target, trained: Target, site: Site): Site | null {
  const own = target.sites.get(site.name);
  const isSame = own?.kind === site.kind && own.inFeatures === site.inFeatures && own.outFeatures === site.outFeatures;
  if (own && isSame) return own;
  const weight = partOf(trained.graph, site.weight);
  const reader = [...target.graph.initializers].find(([, tensor]) => isSameTensor(tensor, weight));
  if (!own && !reader) return null;
  throw new PeftError(
    "BRANCHES",
    own
      ? `"${site.name}" is ${own.inFeatures} to ${own.outFeatures} in one branch of the model, ${site.inFeatures} to ${site.outFeatures} in another.`
      : `A branch of the model reads the weight of "${site.name}" as "${reader?.[0]}", and has no module of that name.`,
    { hint: "bindInputs makes a model of one branch, which can be merged by itself." },
  );
}

/**
 * The model with the changed weights. Where all of them are weights of the file and nothing had to be copied, the file's
 * own nodes stay, fused ones included: what was fast, or kept a cache, in the file is so in the result.
 */
function withChanges(original: Model, model: Model, graph: Graph): Model {
  const mapsOf = ({ opsets, metadata }: Model) => ({ opsets: new Map(opsets), metadata: new Map(metadata) });
  const before = model.graph;
  const changed = [...graph.initializers].filter(([name, tensor]) => before.initializers.get(name) !== tensor);
  /** The tensor in the type that the file has it in; null where the file has no such weight. */
  const asInFile = ([name, tensor]: [string, TensorData]): [string, TensorData][] => {
    const [own, read] = [original.graph.initializers.get(name), before.initializers.get(name)];
    if (!own || !read) return [];
    if (own === read) return [[name, tensor]];
    const isCopy =
      isHalf(own.type) && own.dims.length === read.dims.length && own.dims.every((d, i) => d === read.dims[i]);
    return isCopy ? [[name, tensorFrom(own.type, own.dims, toFloat32Array(tensor))]] : [];
  };
  const inFile = changed.flatMap(asInFile);
  const rewired = graph.nodes.some((node, i) => node.inputs.some((name, k) => name !== before.nodes[i]?.inputs[k]));
  if (rewired || inFile.length !== changed.length) return { ...model, ...mapsOf(model), graph };
  const initializers = new Map([...original.graph.initializers, ...inFile]);
  return { ...original, ...mapsOf(original), graph: { ...copyGraph(original.graph), initializers } };
}

const copyGraph = (graph: Graph): Graph => ({
  ...graph,
  nodes: graph.nodes.map((node): Node => ({ ...node, inputs: [...node.inputs], outputs: [...node.outputs] })),
  initializers: new Map(graph.initializers),
  values: new Map(graph.values),
});

/** New contents of an operand in PyTorch's layout, checked to be finite. */
function changed(
  plan: AdaptedSite,
  which: "weight" | "bias",
  change: OperandChange,
  sign: 1 | -1,
  frozen: FrozenSite,
  base: FrozenSite | null,
): Float32Array {
  const { site, method } = plan;
  let values: Float32Array;
  if (sign === -1 && base && (needsWeight(plan) || "replace" in change)) values = base[which]();
  else if ("add" in change) {
    values = frozen[which]();
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + sign * (change.add[i] as number);
  } else if (sign === 1) values = change.replace;
  else throw needsBase(method.type, site.name);
  const bad = values.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) {
    throw new PeftError("MERGE_NOT_FINITE", `The merged ${which} of "${site.name}" is ${values[bad]} at ${bad}.`, {
      hint: "The adapter holds NaN or values that are too large; nothing was written.",
    });
  }
  return values;
}

const needsWeight = ({ method, config }: AdaptedSite): boolean => declared(method.deltaNeedsWeight, config);

const needsBase = (type: string, site: string): PeftError =>
  new PeftError(
    "UNMERGE_NEEDS_BASE",
    `What ${type} did to "${site}" cannot be subtracted; unmerging needs the base model.`,
  );

/** Writes new contents of a site's operand, in place where only this site reads it, else as an initialiser of its own. */
function writeOperand(index: GraphIndex, site: Site, which: "weight" | "bias", values: Float32Array): void {
  const { graph } = index;
  const operands = operandsOf(site, which);
  for (const name of new Set(operands.map((operand) => operand.initializer))) {
    const readers = operands.filter((operand) => operand.initializer === name);
    const [first] = readers;
    const [rows = 0, columns = 0] = site.weightShape;
    const flipsAt = (operand: Operand): boolean =>
      which === "weight" && site.kind === "linear" && readsFlipped(site, operand);
    if (first && !first.packed && isExclusive(index, readers)) {
      const tensor = partOf(graph, name);
      const flipped = flipsAt(first) !== first.transposed;
      graph.initializers.set(
        name,
        tensorFrom(tensor.type, tensor.dims, flipped ? transposed(values, rows, columns) : values),
      );
      continue;
    }
    for (const operand of readers) {
      const flipped = flipsAt(operand);
      const contents = flipped ? transposed(values, rows, columns) : values;
      const own = weightBehind(index, operand)?.dims ?? [];
      const dims = which === "bias" ? own : flipped ? [columns, rows] : site.weightShape;
      const copy = freshName(graph, `${site.name}.merged_${which}`);
      graph.initializers.set(copy, tensorFrom(operandType(graph, operand), dims, contents));
      if (operand.product) replaceProduct(graph, operand.product, copy);
      else operand.node.inputs[operand.index] = copy;
    }
  }
}

/** True when nothing but these operands reads the initialiser, directly or through Identity, Cast and Transpose. */
function isExclusive(index: GraphIndex, readers: readonly Operand[]): boolean {
  const allowed = new Set(readers.map((r) => r.node));
  const pending = [readers[0]?.initializer ?? ""];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (index.pinned.has(name)) return false;
    for (const node of index.consumers.get(name) ?? []) {
      if (allowed.has(node)) continue;
      if (!["Identity", "Cast", "Transpose"].includes(node.op) && tiedDims(node) === null) return false;
      pending.push(node.outputs[0] ?? "");
    }
  }
  return true;
}

function freshName(graph: Graph, name: string): string {
  let fresh = name;
  for (let i = 1; graph.initializers.has(fresh) || graph.values.has(fresh); i++) fresh = `${name}_${i}`;
  return fresh;
}
