import { PeftError } from "../errors.ts";
import { constantOf } from "../onnx/constant.ts";
import type { Graph, Model, Node, TensorData, Value } from "../onnx/ir.ts";
import { renameAll, renameInAttributes } from "../onnx/rename.ts";
import { readNames } from "../onnx/structure.ts";
import { elementCount, tensorFrom, toNumbers } from "../onnx/tensor.ts";

/** Operators that pass one truth value on. */
const passesOn = new Set(["Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"]);

/** The truth value that a node makes of one of `known`; undefined where it makes none. */
export function truthOf({ op, domain, inputs }: Node, known: ReadonlyMap<string, boolean>): boolean | undefined {
  const given = domain === "" ? known.get(inputs[0] ?? "") : undefined;
  if (given === undefined) return undefined;
  return passesOn.has(op) ? given : op === "Not" ? !given : undefined;
}

/** True for an If of the standard: its first input decides which of its graphs runs. */
export const isIf = ({ op, domain }: Node): boolean => op === "If" && domain === "";

/** The graph that an If runs. */
export function branchOf(node: Node, condition: boolean): Graph {
  const name = condition ? "then_branch" : "else_branch";
  const attribute = node.attributes[name];
  if (attribute?.type === "graph") return attribute.value;
  throw new PeftError("ONNX_INVALID", `If "${node.name}" lacks the graph "${name}".`);
}

/** What a constant says, where it is one truth value. */
function truthIn(tensor: TensorData | null | undefined): boolean | undefined {
  if (tensor?.type !== "bool" || elementCount(tensor.dims) !== 1) return undefined;
  return toNumbers(tensor)[0] !== 0;
}

/** A graph under construction, in which branches take the place of the nodes that chose them. */
class Flat {
  readonly nodes: Node[] = [];
  readonly initializers: Map<string, TensorData>;
  readonly values: Graph["values"];
  readonly known = new Map<string, boolean>();
  /** Some If is gone. */
  changed = false;
  private readonly taken: Set<string>;

  constructor(graph: Graph, bound: ReadonlyMap<string, boolean>) {
    this.initializers = new Map(graph.initializers);
    this.values = new Map(graph.values);
    for (const [name, tensor] of graph.initializers) this.learn(name, truthIn(tensor));
    for (const [name, value] of bound) this.learn(name, value);
    this.taken = new Set([
      ...graph.inputs.map((v) => v.name),
      ...graph.initializers.keys(),
      ...graph.nodes.flatMap((node) => node.outputs),
    ]);
  }

  add(node: Node): void {
    const condition = isIf(node) ? this.known.get(node.inputs[0] ?? "") : undefined;
    if (condition !== undefined) {
      this.changed = true;
      this.inline(branchOf(node, condition), node.outputs);
      return;
    }
    this.nodes.push(node);
    this.learn(node.outputs[0] ?? "", truthOf(node, this.known) ?? truthIn(constantOf(node)));
  }

  private learn(name: string, value: boolean | undefined): void {
    if (value !== undefined) this.known.set(name, value);
  }

  /** A name for a value of a branch: its own, unless a value elsewhere has it. */
  private define(name: string): string {
    let own = name;
    for (let i = 1; this.taken.has(own); i++) own = `${name}_${i}`;
    this.taken.add(own);
    return own;
  }

  /** Adds the nodes of a branch; what it puts out gets the names of the If's outputs. */
  private inline(branch: Graph, outputs: readonly string[]): void {
    const names = new Map<string, string>();
    const made = new Set(branch.nodes.flatMap((node) => node.outputs));
    const shown = new Map<string, string>();
    branch.outputs.forEach(({ name }, i) => {
      const outer = outputs[i] ?? "";
      if (outer !== "" && made.has(name) && !names.has(name)) names.set(name, outer);
      else if (outer !== "") shown.set(outer, name);
    });
    const rename = (name: string): string => {
      if (name === "" || names.has(name)) return names.get(name) ?? name;
      names.set(name, this.define(name));
      return names.get(name) ?? name;
    };
    for (const [name, tensor] of branch.initializers) {
      this.initializers.set(rename(name), tensor);
      this.learn(rename(name), truthIn(tensor));
    }
    for (const name of made) rename(name);
    for (const [name, type] of branch.values) if (made.has(name)) this.values.set(rename(name), type);
    for (const node of branch.nodes) {
      this.add({
        ...node,
        inputs: renameAll(node.inputs, names),
        outputs: renameAll(node.outputs, names),
        attributes: renameInAttributes(node.attributes, names),
      });
    }
    for (const [outer, name] of shown) {
      const inputs = [names.get(name) ?? name];
      this.add({
        ...{ name: `output/${outer}`, op: "Identity", domain: "", inputs, outputs: [outer] },
        ...{ attributes: {}, metadata: {} },
      });
    }
  }
}

/** Nodes that an output depends on. */
function reached(nodes: readonly Node[], outputs: readonly Value[]): { nodes: Node[]; read: Set<string> } {
  const read = new Set(outputs.map((v) => v.name));
  const kept: Node[] = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i] as Node;
    if (!node.outputs.some((name) => read.has(name))) continue;
    kept.push(node);
    for (const name of readNames(node)) read.add(name);
  }
  return { nodes: kept.reverse(), read };
}

/**
 * A model with truth values in the place of some of its inputs: every If that they decide, directly or inside of another, is
 * replaced by the branch that it takes, and so is one with a constant condition. Weights of the graph around stay what they are;
 * inputs that only other branches read are gone, and so are nodes and constants. The same model when nothing changes.
 *
 * @throws PeftError INPUT_UNKNOWN for a name that is no input, INPUT_TYPE for an input that is no truth value
 * @example
 * bindInputs(await readModel("decoder_model_merged.onnx"), { use_cache_branch: true }); // the decoder that reads a cache
 */
export function bindInputs(model: Model, values: Readonly<Record<string, boolean>>): Model {
  const { graph } = model;
  for (const name of Object.keys(values)) {
    const input = graph.inputs.find((v) => v.name === name);
    if (!input) {
      throw new PeftError("INPUT_UNKNOWN", `The model has no input "${name}".`, {
        hint: `Its inputs are [${graph.inputs.map((v) => v.name).join(", ")}].`,
      });
    }
    if (!isChoice(input)) {
      throw new PeftError(
        "INPUT_TYPE",
        `Expected one truth value behind "${name}", it is ${input.type} [${input.shape.join(", ")}].`,
      );
    }
  }
  const bound = new Map(Object.entries(values));
  const flat = new Flat(graph, bound);
  for (const node of graph.nodes) flat.add(node);
  if (!flat.changed && bound.size === 0) return model;
  const { nodes, read } = reached(flat.nodes, graph.outputs);
  const before = new Set(graph.nodes.flatMap((node) => [...readNames(node)]));
  const isKept = ({ name }: Value): boolean => !bound.has(name) && (read.has(name) || !before.has(name));
  const constants = graph.inputs.flatMap(({ name, shape }): [string, TensorData][] => {
    const value = bound.get(name);
    if (value === undefined || !read.has(name)) return [];
    return [[name, tensorFrom("bool", shape.length === 0 ? [] : shape.map(() => 1), [value ? 1 : 0])]];
  });
  const initializers = new Map([...flat.initializers, ...constants].filter(([name]) => read.has(name)));
  const inputs = graph.inputs.filter(isKept);
  return { ...model, graph: { ...graph, nodes, inputs, initializers, values: flat.values } };
}

/** One truth value: what an If can be decided by. */
export const isChoice = ({ type, shape }: Value): boolean =>
  type === "bool" && shape.every((dim) => dim === 1 || typeof dim === "string");
