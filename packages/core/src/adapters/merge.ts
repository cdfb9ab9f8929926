import { PeftError } from "../errors.ts";
import { isHalf } from "../lowering/float-types.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { declared, type FrozenSite, type OperandChange, whyNoDelta } from "../methods/method.ts";
import type { Graph, Model, Node, TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { tiedDims } from "../onnx/tied.ts";
import { partOf } from "../quantization/packed-weight.ts";
import { type AdaptedSite, type Adapter, adaptedSites } from "./adapter.ts";
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
 * others stay packed. Costs out * r * in multiplications per LoRA site and memory for the changed weights.
 *
 * @throws PeftError ADAPTER_MISMATCH; BASE_MISMATCH when the adapter belongs to another base model; NO_DELTA when the method cannot be written as weights; MERGE_NOT_FINITE when a new
 *   weight holds NaN or infinity
 * @example
 * await writeModel("merged.onnx", mergeAdapter(model, adapter));
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
  const model = prepareModel(original);
  const graph = copyGraph(model.graph);
  const index = indexGraph(graph);
  const unchanged = indexGraph(model.graph);
  const sites = findSites({ ...model, graph });
  const bases = base ? new Map(findSites(base).map((s) => [s.name, frozenSite(prepareModel(base).graph, s)])) : null;
  const slices = collectSlices();
  const madeFrom = (site: Site): FrozenSite => bases?.get(site.name) ?? frozenSite(graph, site);
  for (const plan of adaptedSites(graph, sites, adapter, madeFrom)) {
    const { site, method, config, tensors } = plan;
    const reason = whyNoDelta(method, config);
    if (!method.delta || reason !== null) {
      throw new PeftError("NO_DELTA", `${method.type} cannot be merged: ${reason}.`);
    }
    const frozen = frozenSite(graph, site);
    const before = bases?.get(site.name) ?? null;
    if (sign === -1 && needsWeight(plan) && !before) throw needsBase(method.type, site.name);
    const delta = method.delta(tensors, config, site, (sign === -1 && before) || frozen);
    // The bias first: a fused operator that holds one is replaced together with its weight.
    for (const which of ["bias", "weight"] as const) {
      const change = delta[which];
      if (!change) continue;
      const values = changed(plan, which, change, sign, frozen, before);
      if (operandsOf(site, which)[0]?.slice) slices.add(graph, site, which, values);
      else writeOperand(index, site, which, values);
    }
  }
  for (const { whole, which, values } of slices.all()) writeOperand(index, whole, which, values());
  dropUnread(graph, unchanged);
  return withChanges(original, model, graph);
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
