import { floatAttribute, intAttribute, intsAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Node } from "../onnx/ir.ts";
import { elementCount, toNumbers } from "../onnx/tensor.ts";
import { type GraphIndex, onlyConsumer, operandNames, operandOf, weightBehind } from "./graph-index.ts";
import type { ExpertsUse, Operand } from "./site.ts";
import { type SiteName, siteNameOf } from "./site-names.ts";
import { type FoundUse, weightOperand } from "./use-parts.ts";

/** Steps between a parameter and its product: a choice of matrices, a transpose, a cast. */
const longestWay = 8;

const swapsLastAxes = (node: Node): boolean => {
  const perm = intsAttribute(node, "perm");
  const rank = perm?.length ?? 0;
  return rank >= 2 && (perm ?? []).every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
};

/** True for [..., 1]: indices of GatherND that name one axis. */
function endsInOne(index: GraphIndex, name: string): boolean {
  const tensor = index.graph.initializers.get(name);
  if (tensor) return tensor.dims.at(-1) === 1;
  const producer = index.producers.get(name);
  if (producer?.op !== "Unsqueeze") return false;
  const axes = index.graph.initializers.get(producer.inputs[1] ?? "");
  const given =
    axes?.type === "int64" && elementCount(axes.dims) === 1 ? toNumbers(axes) : intsAttribute(producer, "axes");
  return given?.length === 1 && given[0] === -1;
}

/** True when a node picks whole matrices of [experts, a, b]. */
function picksExperts(index: GraphIndex, node: Node): boolean {
  if (node.op === "Gather") return intAttribute(node, "axis", 0) === 0;
  return node.op === "GatherND" && intAttribute(node, "batch_dims", 0) === 0 && endsInOne(index, node.inputs[1] ?? "");
}

interface Found {
  readonly weight: Operand;
  /** The nodes between, in graph order. */
  readonly between: readonly Node[];
  readonly selection: Node | null;
  readonly flipped: boolean;
}

/** The parameter [experts, a, b] behind factor `i` of a product, or null. */
function expertsBehind(index: GraphIndex, product: Node, i: number): Found | null {
  const between: Node[] = [];
  let [reader, at, flipped] = [product, i, false];
  let selection: Node | null = null;
  for (;;) {
    const weight = weightOperand(index, reader, at, (rank) => rank === 3);
    const dims = weightBehind(index, weight)?.dims ?? [];
    // One matrix, or one row, is no batch of matrices: tables of rotary frequencies are such.
    if (weight) return weight.packed || dims.some((d) => d < 2) ? null : { weight, between, selection, flipped };
    const name = reader.inputs[at] ?? "";
    const producer = index.producers.get(name);
    if (producer?.domain !== "" || between.length === longestWay || !onlyConsumer(index, name)) return null;
    if (producer.op === "Transpose" && swapsLastAxes(producer)) flipped = !flipped;
    else if (selection === null && picksExperts(index, producer)) selection = producer;
    else if (producer.op !== "Cast" && producer.op !== "Identity") return null;
    between.unshift(producer);
    [reader, at] = [producer, 0];
  }
}

/**
 * A product with a batch of matrices that is one parameter [experts, a, b]: with all of them, or with those that a Gather or GatherND
 * picks for every token, or for a loop over experts. In MatMul, FusedMatMul and Gemm (one expert picked), on either side.
 */
export function expertsUse(index: GraphIndex, node: Node): FoundUse | null {
  if (floatAttribute(node, "alpha", 1) !== 1 || floatAttribute(node, "beta", 1) !== 1) return null;
  if (intAttribute(node, "transBatchA", 0) !== 0 || intAttribute(node, "transBatchB", 0) !== 0) return null;
  for (const side of node.op === "Gemm" ? (["right"] as const) : (["right", "left"] as const)) {
    const [own, other] = side === "right" ? [1, 0] : [0, 1];
    const input = node.inputs[other] ?? "";
    const turns = (i: number): boolean => intAttribute(node, i === 0 ? "transA" : "transB", 0) !== 0;
    if (turns(other) || operandOf(index, node, other) !== null) continue;
    const found = expertsBehind(index, node, own);
    if (!found) continue;
    const { weight, between, selection, flipped } = found;
    // x·W reads [in, out], W·x reads [out, in].
    const operandLayout = (side === "right") !== (turns(own) !== flipped) ? "in_out" : "out_in";
    const experts: ExpertsUse = { side, selection };
    const output = node.outputs[0] ?? "";
    const nodes = [...between, node];
    return { kind: "experts", operandLayout, use: { nodes, input, output, weight, bias: null, experts } };
  }
  return null;
}

/** Letters of an axis for the rank. */
const letters = [..."rabcdefghijklmnopqstuvwxyz"];

/**
 * The same as an Einsum of two factors, x and [experts, in, out] or [experts, out, in], its equation written out: "bd,edh->beh". Where only
 * x has the letter of the experts ("bed,edh->bh") they are summed.
 */
export function expertsEinsum(index: GraphIndex, node: Node): FoundUse | null {
  const match = /^([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)$/.exec(
    stringAttribute(node, "equation", "").replaceAll(" ", ""),
  );
  if (!match || node.inputs.length !== 2) return null;
  const [, first = "", second = "", made = ""] = match;
  const isDistinct = (term: string): boolean => new Set(term).size === term.length;
  for (const own of [1, 0]) {
    const [read, matrix] = own === 1 ? [first, second] : [second, first];
    const weight = weightOperand(index, node, own, (rank) => rank === 3);
    const dims = weightBehind(index, weight)?.dims ?? [];
    if (!weight || weight.packed || dims.some((d) => d < 2) || operandOf(index, node, 1 - own) !== null) continue;
    if (matrix.length !== 3 || ![read, matrix, made].every(isDistinct)) continue;
    const [e = "", a = "", b = ""] = matrix;
    const isIn = (letter: string): boolean => read.includes(letter) && !made.includes(letter);
    const isOut = (letter: string): boolean => !read.includes(letter) && made.includes(letter);
    const isInOut = isIn(a) && isOut(b);
    if (!(isInOut || (isOut(a) && isIn(b))) || !(read.includes(e) || made.includes(e))) continue;
    const [input, output] = isInOut ? [a, b] : [b, a];
    const r = letters.find((letter) => ![...read, ...matrix, ...made].includes(letter)) ?? "";
    const h = read.replace(input, r) + (read.includes(e) ? "" : e);
    const equations = [`${read},${e}${r}${input}->${h}`, `${h},${e}${r}${output}->${made}`] as const;
    const use = {
      nodes: [node],
      input: node.inputs[1 - own] ?? "",
      output: node.outputs[0] ?? "",
      weight,
      bias: null,
      experts: { side: "right", selection: null, equations } as const,
    };
    return { kind: "experts", operandLayout: isInOut ? "in_out" : "out_in", use };
  }
  return null;
}

/** The path of a parameter in the name of its initialiser ("model.layers.0.mlp.experts.gate_up_proj"), or null. */
const parameterPath = (name: string): string | null =>
  /^[A-Za-z_]\w*(?:\.\w+)*\.[A-Za-z_]\w*$/.test(name) ? name : null;

/**
 * Names for uses of experts: `peft` names the parameter and no module. Where the exporter lost the name of one and kept the module's
 * path, two parameters in a row are called as the experts of transformers call theirs: gate_up_proj (or up_proj, where no gate halves
 * what it makes) and down_proj.
 */
export function withExpertNames(index: GraphIndex, uses: readonly FoundUse[]): FoundUse[] {
  const modules = new Map<string, FoundUse[]>();
  const named = new Map<FoundUse, SiteName>();
  for (const found of uses) {
    if (found.kind !== "experts") continue;
    const { nodes, weight } = found.use;
    const [path] = operandNames(index, weight).flatMap((name) => parameterPath(name) ?? []);
    if (path !== undefined) named.set(found, { name: path, source: "parameter" });
    else {
      const own = siteNameOf(index, nodes, weight, null);
      named.set(found, own);
      if (own.source === "scope") modules.set(own.name, [...(modules.get(own.name) ?? []), found]);
    }
  }
  for (const [module, members] of modules) {
    const parameters = [...new Set(members.map(({ use }) => use.weight.initializer))];
    const first = members[0];
    const second = members.find(({ use }) => use.weight.initializer === parameters[1]);
    if (!first || !second || parameters.length !== 2) continue;
    const [made, read] = [widths(index, first)[1], widths(index, second)[0]];
    if (made !== read && made !== 2 * read) continue;
    const names = [made === read ? "up_proj" : "gate_up_proj", "down_proj"];
    for (const member of members) {
      const name = names[parameters.indexOf(member.use.weight.initializer)];
      named.set(member, { name: `${module}.${name}`, source: "scope" });
    }
  }
  return uses.map((found) => {
    const name = named.get(found);
    return name ? { ...found, name } : found;
  });
}

/** Widths of what a matrix reads and makes. */
function widths(index: GraphIndex, { use, operandLayout }: FoundUse): readonly [read: number, made: number] {
  const [, a = 0, b = 0] = weightBehind(index, use.weight)?.dims ?? [];
  return operandLayout === "in_out" ? [a, b] : [b, a];
}
