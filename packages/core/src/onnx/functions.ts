import { PeftError } from "../errors.ts";
import { type DecodeContext, freshSymbol } from "./decode-context.ts";
import type { Attribute, Graph, Node, Value, ValueType } from "./ir.ts";
import { checkLimit } from "./limits.ts";
import { countFields } from "./source.ts";
import { subgraphsOf } from "./structure.ts";

/** A model-local function: a body of nodes over formal inputs, outputs and attributes. */
export interface FunctionDefinition {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Values of attributes that a call leaves out. */
  readonly defaults: ReadonlyMap<string, Attribute>;
  readonly nodes: readonly Node[];
}

export const functionKey = (domain: string, name: string, overload: string): string =>
  JSON.stringify([domain, name, overload]);

interface Call {
  /** New name of a name in the body. */
  readonly rename: (name: string) => string;
  /** Value of a function attribute, undefined where the call and the definition give none. */
  readonly attribute: (name: string) => Attribute | undefined;
  readonly nodePrefix: string;
  readonly metadata: Record<string, string>;
}

function copyGraph(graph: Graph, call: Call, context: DecodeContext): Graph {
  const size = graph.inputs.length + graph.outputs.length + graph.initializers.size + graph.values.size;
  countFields(context.source, 1 + size, 0, `function call ${call.nodePrefix}`);
  // Symbols of a body mean another size in every call.
  const copyType = (name: string, { type, shape }: ValueType): ValueType => ({
    type,
    shape: shape.map((dim, axis) =>
      typeof dim === "number" || dim === "..." ? dim : freshSymbol(context.symbols, name, axis),
    ),
  });
  const copyValue = (value: Value): Value => ({ name: call.rename(value.name), ...copyType(value.name, value) });
  return {
    name: graph.name,
    nodes: graph.nodes.map((node) => copyNode(node, call, context)),
    inputs: graph.inputs.map(copyValue),
    outputs: graph.outputs.map(copyValue),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [call.rename(name), tensor])),
    values: new Map([...graph.values].map(([name, value]) => [call.rename(name), copyType(name, value)])),
  };
}

function copyAttribute(attribute: Attribute, call: Call, context: DecodeContext): Attribute {
  if (attribute.type === "graph") return { type: "graph", value: copyGraph(attribute.value, call, context) };
  if (attribute.type !== "graphs") return attribute;
  return { type: "graphs", value: attribute.value.map((graph) => copyGraph(graph, call, context)) };
}

function copyNode(node: Node, call: Call, context: DecodeContext): Node {
  const where = `function call ${call.nodePrefix}`;
  checkLimit("nodes", ++context.nodeCount, context.limits.maxNodes, where);
  const metadata = { ...call.metadata, ...node.metadata };
  const attributes = Object.entries(node.attributes);
  // A small body that is called often may hold long lists: what is copied counts like what is read.
  const size = node.inputs.length + node.outputs.length + attributes.length + Object.keys(metadata).length;
  countFields(context.source, 1 + size, 0, where);
  const copy: Node = {
    name: `${call.nodePrefix}/${node.name || node.op}`,
    op: node.op,
    domain: node.domain,
    inputs: node.inputs.map(call.rename),
    outputs: node.outputs.map(call.rename),
    attributes: {},
    metadata,
  };
  for (const [name, attribute] of attributes) {
    copy.attributes[name] = copyAttribute(attribute, call, context);
  }
  for (const [name, formal] of context.references.get(node) ?? []) {
    const attribute = call.attribute(formal);
    if (attribute) copy.attributes[name] = attribute;
  }
  const overload = context.overloads.get(node);
  if (overload) context.overloads.set(copy, overload);
  return copy;
}

function collectNames(graph: Graph, names: Set<string>): void {
  for (const { name } of [...graph.inputs, ...graph.outputs]) names.add(name);
  for (const name of graph.initializers.keys()) names.add(name);
  for (const node of graph.nodes) {
    for (const output of node.outputs) names.add(output);
    for (const inner of subgraphsOf(node)) collectNames(inner, names);
  }
}

const identity = (from: string, to: string): Node => ({
  name: `${to}/Identity`,
  op: "Identity",
  domain: "",
  inputs: [from],
  outputs: [to],
  attributes: {},
  metadata: {},
});

interface Names {
  /** Names of values that are taken. */
  readonly used: Set<string>;
  /** How many calls have had a node of this name. */
  readonly calls: Map<string, number>;
  /** Length of all names made so far. */
  characters: number;
}

/** Names grow with every level of calls; 100,000 nodes with names of 200 characters take 20 million. */
const maxNameCharacters = 2 ** 27;

/** A prefix of its own for every call: node names need not be unique. */
function callPrefix(name: string, { calls }: Names): string {
  const count = calls.get(name) ?? 0;
  calls.set(name, count + 1);
  return count === 0 ? name : `${name}#${count}`;
}

/** The nodes that a call of a function stands for. */
function expandCall(node: Node, definition: FunctionDefinition, scope: Names, context: DecodeContext): Node[] {
  const { inputs, outputs, name } = definition;
  const where = `call of function "${name}" at node "${node.name}"`;
  if (node.inputs.length > inputs.length || node.outputs.length > outputs.length) {
    throw new PeftError(
      "ONNX_INVALID",
      `expected at most ${inputs.length} inputs and ${outputs.length} outputs in the ${where}.`,
    );
  }
  const names = new Map<string, string>([["", ""]]);
  inputs.forEach((formal, i) => {
    names.set(formal, node.inputs[i] ?? "");
  });
  const forwarded: Node[] = [];
  outputs.forEach((formal, i) => {
    const actual = node.outputs[i] ?? "";
    if (actual === "") return;
    const existing = names.get(formal);
    if (existing === undefined) names.set(formal, actual);
    else forwarded.push(identity(existing, actual)); // the function hands an input, or another output, through
  });
  const prefix = callPrefix(node.name || name, scope);
  checkLimit("bytes in a name", prefix.length, context.limits.maxNameLength, where);
  const rename = (inner: string): string => {
    const known = names.get(inner);
    if (known !== undefined) return known;
    let fresh = `${prefix}/${inner}`;
    while (scope.used.has(fresh)) fresh += "'";
    scope.used.add(fresh);
    names.set(inner, fresh);
    scope.characters += fresh.length;
    checkLimit("characters in names of inlined functions", scope.characters, maxNameCharacters, where);
    return fresh;
  };
  const call: Call = {
    rename,
    attribute: (formal) =>
      Object.hasOwn(node.attributes, formal) ? node.attributes[formal] : definition.defaults.get(formal),
    nodePrefix: prefix,
    metadata: node.metadata,
  };
  return [...definition.nodes.map((inner) => copyNode(inner, call, context)), ...forwarded];
}

/**
 * Replaces every call of a model-local function by its body, in sub-graphs too. Names inside a body are prefixed with the
 * name of the calling node, so that they stay unique and still say where they come from.
 *
 * @throws PeftError ONNX_INVALID for a function that calls itself or an attribute reference outside of a function;
 *   ONNX_LIMIT for too many nodes
 */
export function inlineFunctions(
  graph: Graph,
  functions: ReadonlyMap<string, FunctionDefinition>,
  context: DecodeContext,
): void {
  const scope: Names = { used: new Set(), calls: new Map(), characters: 0 };
  if (functions.size > 0) collectNames(graph, scope.used);
  const expand = (node: Node, callers: readonly string[]): Node[] => {
    if (context.references.has(node)) {
      throw new PeftError(
        "ONNX_INVALID",
        `node "${node.name}" (${node.op}) refers to an attribute of a function but is in none.`,
      );
    }
    const key = functionKey(node.domain, node.op, context.overloads.get(node) ?? "");
    const definition = functions.get(key);
    if (!definition) {
      for (const inner of subgraphsOf(node)) inner.nodes = inner.nodes.flatMap((child) => expand(child, callers));
      return [node];
    }
    if (callers.includes(key)) throw new PeftError("ONNX_INVALID", `function "${definition.name}" calls itself.`);
    checkLimit("nested function calls", callers.length + 1, context.limits.maxNesting, `function "${definition.name}"`);
    return expandCall(node, definition, scope, context).flatMap((child) => expand(child, [...callers, key]));
  };
  graph.nodes = graph.nodes.flatMap((node) => expand(node, []));
}
