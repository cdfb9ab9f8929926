import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { constantOf } from "../onnx/constant.ts";
import { divideExactly, isInvented, sizeOf, termsOf } from "../onnx/dims.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Dim, Graph, Model, Node, Shape } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { tensorFrom, toNumbers } from "../onnx/tensor.ts";

/** A size that inputs declare free and that an exporter wrote into the graph as that of its example. */
export interface FreedSize {
  /** The name that the inputs give it. */
  readonly symbol: string;
  /** The only value that the file runs with. */
  readonly value: number;
  /** The nodes that it was written for. */
  readonly nodes: readonly string[];
}

export interface FreedModel {
  readonly model: Model;
  readonly freed: readonly FreedSize[];
}

/** Entries of a Reshape's target that become 0 (as in the input) or -1 (what is left), by their place. */
type Entries = ReadonlyMap<number, 0 | -1>;

/** A size that is neither a number nor computed from others. */
const isName = (dim: Dim | undefined): dim is string =>
  typeof dim === "string" && !dim.startsWith("[") && !isInvented(dim) && !/[+*]/.test(dim);

/**
 * What the symbols of `total` must be for it to equal `want`: the names that are left when both are divided by what they share, and
 * the number that their product has to be. 16 * batch * tokens = 9 * 2 * batch * 8 says that tokens is 9.
 */
function equation(total: Dim, want: Dim): { readonly names: readonly string[]; readonly product: number } | null {
  const [left, right] = [termsOf(total), termsOf(want)];
  const [a, b] = [left[0], right[0]];
  if (left.length !== 1 || right.length !== 1 || !a || !b) return null;
  const names = [...a.atoms];
  for (const atom of b.atoms) {
    const at = names.indexOf(atom);
    if (at < 0) return null;
    names.splice(at, 1);
  }
  const product = b.coefficient / a.coefficient;
  const isSolvable = names.length > 0 && new Set(names).size === names.length && names.every(isName);
  return isSolvable && Number.isInteger(product) && product > 0 ? { names, product } : null;
}

interface Target {
  readonly shape: Shape;
  /** As written, and with zeros replaced by what they copy. */
  readonly written: readonly Dim[];
  readonly dims: readonly Dim[];
  readonly copiesZeros: boolean;
}

function targetOf(g: Builder, node: Node): Target | null {
  const [from = "", to = ""] = node.inputs;
  if (node.op !== "Reshape" || node.domain !== "" || !g.has(from) || !g.has(to)) return null;
  const written = g.intsOf(g.value(to));
  if (!written) return null;
  const { shape } = g.value(from);
  const copiesZeros = intAttribute(node, "allowzero", 0) === 0;
  const dims = written.map((dim, i) => (dim === 0 && copiesZeros ? (shape[i] ?? 0) : dim));
  return dims.includes(0) ? null : { shape, written, dims, copiesZeros };
}

/** Places where the input has a name of `names` and the target a number, on the same axis. */
const alignedWith = ({ shape, written }: Target, names: readonly string[]): number[] =>
  written.flatMap((dim, i) => (typeof dim === "number" && dim > 0 && names.includes(String(shape[i])) ? [i] : []));

/**
 * Values that a Reshape needs its input's sizes to have, where it runs with no others, and the entries to change so that it runs with
 * all. Null where it runs with all already, and where its entries do not say which of them is the size.
 */
function solve(target: Target): { readonly values: ReadonlyMap<string, number>; readonly entries: Entries } | null {
  const { shape, dims, copiesZeros } = target;
  if (dims.includes(-1)) return null;
  const total = sizeOf(shape);
  const found = equation(total, sizeOf(dims));
  if (!found) return null;
  const { names, product } = found;
  const places = alignedWith(target, names);
  const isWhole = places.reduce((p, i) => p * (dims[i] as number), 1) === product;
  if (isWhole && places.length === names.length && copiesZeros) {
    const values = new Map(places.map((i) => [shape[i] as string, dims[i] as number]));
    return { values, entries: new Map(places.map((i) => [i, 0])) };
  }
  // Not on its own axis: a multiple of it, as batch times heads is. Only where no other entry could be the one.
  const multiples = dims.flatMap((dim, i) => (typeof dim === "number" && dim % product === 0 ? [i] : []));
  const [name] = names;
  const [place] = multiples;
  if (names.length > 1 || name === undefined || product === 1 || multiples.length !== 1 || place === undefined)
    return null;
  return { values: new Map([[name, product]]), entries: new Map([[place, -1]]) };
}

/** Entries beside a -1 that hold a size known from other nodes: alone they prove nothing, as the -1 takes what is left. */
function besideOpen(target: Target, known: ReadonlyMap<string, number>): Entries | null {
  const { shape, dims, copiesZeros } = target;
  if (!dims.includes(-1) || !copiesZeros) return null;
  const places = alignedWith(target, [...known.keys()]).filter((i) => dims[i] === known.get(shape[i] as string));
  if (places.length === 0) return null;
  const others = sizeOf(dims.flatMap((dim, i) => (dim === -1 ? [] : [places.includes(i) ? (shape[i] as Dim) : dim])));
  return divideExactly(sizeOf(shape), others) === null ? null : new Map(places.map((i) => [i, 0]));
}

interface Change {
  readonly entries: Entries;
  /** The sizes that the entries stand for. */
  readonly names: readonly string[];
  /** Of the target. */
  readonly length: number;
}

/** Condition and first choice of the Where that puts entries in the place of those of a target. */
const chosen = ({
  entries,
  length,
}: Pick<Change, "entries" | "length">): readonly (readonly ["bool" | "int64", number[]])[] => [
  ["bool", Array.from({ length }, (_, i) => Number(entries.has(i)))],
  ["int64", Array.from({ length }, (_, i) => entries.get(i) ?? 0)],
];

interface Pass {
  readonly changes: ReadonlyMap<Node, Change>;
  readonly values: ReadonlyMap<string, number>;
}

/** One walk through the graph, in which what is changed shows in the shapes behind it. Null when two nodes want different values. */
function walk(model: Model, known: ReadonlyMap<string, number>): Pass | null {
  const changes = new Map<Node, Change>();
  const values = new Map(known);
  let agrees = true;
  importGraph(model.graph, opsetOf(model), {
    replace: (g, node) => {
      const target = targetOf(g, node);
      const solved = target && solve(target);
      const entries = solved?.entries ?? (target && besideOpen(target, known));
      if (!target || !entries) return false;
      for (const [name, value] of solved?.values ?? []) {
        if ((values.get(name) ?? value) !== value) agrees = false;
        values.set(name, value);
      }
      const names = solved ? [...solved.values.keys()] : [...entries.keys()].map((i) => String(target.shape[i]));
      const change = { entries, names, length: target.written.length };
      changes.set(node, change);
      const made = g.op(
        "Where",
        chosen(change)
          .map(([type, list]) => g.constant(type, list))
          .concat(g.value(node.inputs[1] ?? "")),
      );
      g.op("Reshape", [g.value(node.inputs[0] ?? ""), made[0] ?? null], {}, { outputs: node.outputs });
      return true;
    },
  });
  return agrees ? { changes, values } : null;
}

/** Most walks: sizes that one proves may show others beside a -1. */
const mostWalks = 3;

function changesOf(model: Model): Pass | null {
  let known: ReadonlyMap<string, number> = new Map();
  for (let i = 0; i < mostWalks; i++) {
    const pass = walk(model, known);
    if (!pass || pass.values.size === known.size) return pass;
    known = pass.values;
  }
  return null;
}

/** The graph with new targets: another constant, or a Where behind one that is computed. */
function rewritten(graph: Graph, { changes, values }: Pass): Graph {
  const initializers = new Map(graph.initializers);
  const constants = new Map(graph.nodes.map((node) => [node.outputs[0] ?? "", constantOf(node)]));
  const taken = new Set([
    ...initializers.keys(),
    ...graph.inputs.map((v) => v.name),
    ...graph.nodes.flatMap((n) => n.outputs),
  ]);
  const fresh = (base: string): string => {
    let name = base;
    for (let i = 1; taken.has(name); i++) name = `${base}_${i}`;
    taken.add(name);
    return name;
  };
  const constant = (base: string, type: "bool" | "int64", list: readonly number[]): string => {
    const name = fresh(base);
    initializers.set(name, tensorFrom(type, [list.length], list));
    return name;
  };
  const nodes = graph.nodes.flatMap((node): Node[] => {
    const change = changes.get(node);
    if (!change) return [node];
    const [x = "", to = ""] = node.inputs;
    const base = `${node.outputs[0]}_free`;
    const written = graph.initializers.get(to) ?? constants.get(to);
    if (written) {
      const list = toNumbers(written).map((dim, i) => change.entries.get(i) ?? dim);
      return [{ ...node, inputs: [x, constant(base, "int64", list)] }];
    }
    const choice = chosen(change).map(([type, list]) => constant(base, type, list));
    const place = {
      op: "Where",
      domain: "",
      name: `${node.name}/free`,
      inputs: [...choice, to],
      outputs: [fresh(base)],
    };
    return [
      { ...place, attributes: {}, metadata: node.metadata },
      { ...node, inputs: [x, ...place.outputs] },
    ];
  });
  // What the file says of shapes behind is of the example.
  const sizes = new Set<Dim>(values.values());
  const kept = [...graph.values].filter(([, { shape }]) => !shape.some((dim) => sizes.has(dim)));
  return { ...graph, nodes, initializers, values: new Map(kept) };
}

const known = new WeakMap<Model, FreedModel>();

/**
 * The model without the sizes that an exporter wrote into targets of Reshape as those of its example, where they belong to an axis
 * that the inputs declare free: TorchScript does so with the number of tokens in `nn.MultiheadAttention`. A size counts as
 * written in where a Reshape runs with this one value of it only, or where the axes of several make up the one product that
 * it runs with, and where no two nodes want different values. What the file computed at that size stays the very same;
 * at others it failed and now runs. Sizes in other constants (a mask of 9 times 9) stay.
 *
 * Pure; the same object when there is nothing to do, or when shapes cannot be inferred.
 * @example
 * freeSizes(model).freed; // [{ symbol: "tokens", value: 9, nodes: ["/self_attn/Reshape_4", "/self_attn/Reshape_5"] }]
 */
export function freeSizes(model: Model): FreedModel {
  const before = known.get(model);
  if (before) return before;
  const result = freed(model);
  known.set(model, result);
  known.set(result.model, { model: result.model, freed: result.freed });
  return result;
}

function freed(model: Model): FreedModel {
  const untouched: FreedModel = { model, freed: [] };
  const isFree = model.graph.inputs.some(({ shape }) => shape.some((dim) => typeof dim === "string"));
  if (!isFree || !model.graph.nodes.some(({ op }) => op === "Reshape")) return untouched;
  let pass: Pass | null;
  try {
    if (opsetOf(model) < 9) return untouched; // no Where
    pass = changesOf(model);
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    return untouched; // whoever takes the graph over says what is wrong with it
  }
  if (!pass || pass.changes.size === 0) return untouched;
  const { changes, values } = pass;
  const sizes = [...values].map(([symbol, value]) => {
    const nodes = [...changes].flatMap(([{ name }, { names }]) => (names.includes(symbol) ? [name] : []));
    return { symbol, value, nodes };
  });
  return { model: { ...model, graph: rewritten(model.graph, pass) }, freed: sizes };
}
