import { PeftError } from "../errors.ts";
import type { Graph, Node, TensorData, Value } from "../onnx/ir.ts";
import { floatProduct } from "./float-product.ts";
import { parametersOf, type SitePlan } from "./parameters.ts";
import { quantizedSlice, replaceSlice } from "./replace-slice.ts";
import type { FloatProduct, Operand, Site } from "./site.ts";

/**
 * A copy of a graph whose sites read the plans' replacing parameters and not their initialisers. Only the sites' own nodes
 * are changed, so weights that others share stay frozen there. All parameters become graph inputs; an initialiser whose
 * name one of them needs is renamed. An operator that reads packed weights only becomes a product of floats.
 */
export function withParameters(graph: Graph, plans: readonly SitePlan[]): Graph {
  const inputs = parametersOf(plans).map(({ name, dims }): Value => ({ name, type: "float32", shape: dims }));
  const renamed = freeNames(
    graph,
    inputs.map((v) => v.name),
  );
  const rename = (name: string): string => renamed.get(name) ?? name;
  const copies = new Map<Node, Node>();
  for (const node of graph.nodes)
    copies.set(node, { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) });
  const added = new Map<Node, Node[]>();
  const constants = new Map<string, TensorData>();
  const products = new Map<Node, { product: FloatProduct; weight: string }>();
  for (const { site, parameters: own } of plans) {
    for (const { name, replaces } of own) {
      if (replaces === null) continue;
      for (const use of site.uses) {
        const operand = replaces === "weight" ? use.weight : use.bias;
        if (!operand) throw new PeftError("NO_BIAS", `The module "${site.name}" has no bias to train.`);
        const copy = copies.get(operand.node);
        if (!copy) throw new PeftError("UNKNOWN_NODE", `The site "${site.name}" is not of this graph.`);
        const before = adjust(graph, site, operand, replaces, name);
        const value = before.at(-1)?.outputs[0] ?? name;
        const { product, slice } = operand;
        if (slice) {
          if (product) throw quantizedSlice(site.name, "it cannot be trained as a whole");
          const axis = replaces === "weight" ? (readsFlipped(site, operand) ? 1 : 0) : -1;
          const around = replaceSlice(copy.inputs[operand.index] ?? "", value, slice, axis, constants);
          copy.inputs[operand.index] = around.at(-1)?.outputs[0] ?? value;
          before.push(...around);
        } else if (product)
          products.set(product.node, { product: { ...product, input: rename(product.input) }, weight: value });
        else copy.inputs[operand.index] = value;
        added.set(operand.node, [...(added.get(operand.node) ?? []), ...before]);
      }
    }
  }
  return {
    ...graph,
    nodes: graph.nodes.flatMap((node) => {
      const copy = copies.get(node) ?? node;
      const float = products.get(node);
      return [...(added.get(node) ?? []), ...(float ? floatProduct(float.product, copy, float.weight) : [copy])];
    }),
    inputs: [...graph.inputs, ...inputs],
    initializers: new Map([
      ...[...graph.initializers].map(([name, tensor]): [string, TensorData] => [rename(name), tensor]),
      ...constants,
    ]),
  };
}

/** Nodes that bring a float32 parameter in PyTorch's layout into the type and layout that its reader expects. */
function adjust(graph: Graph, site: Site, operand: Operand, which: "weight" | "bias", name: string): Node[] {
  const nodes: Node[] = [];
  const add = (op: string, attributes: Node["attributes"]): void => {
    const input = nodes.at(-1)?.outputs[0] ?? name;
    const output = `${name}:${op.toLowerCase()}:${operand.node.outputs[0] ?? ""}`;
    nodes.push({ name: output, op, domain: "", inputs: [input], outputs: [output], attributes, metadata: {} });
  };
  if (which === "weight" && site.kind === "linear" && readsFlipped(site, operand)) {
    add("Transpose", { perm: { type: "ints", value: [1, 0] } });
  }
  const type = operandType(graph, operand);
  if (type !== "float32") {
    const code = { float16: 10, float64: 11, bfloat16: 16 }[type];
    add("Cast", { to: { type: "int", value: code } });
  }
  return nodes;
}

/** True when the reader wants the transpose of the module's own weight. */
export function readsFlipped(site: Site, operand: Operand): boolean {
  const { attributes, op } = operand.node;
  const reads =
    (op === "Gemm" || op === "FusedMatMul") &&
    attributes["transB"]?.type === "int" &&
    Number(attributes["transB"].value) !== 0
      ? "out_in"
      : "in_out";
  return reads !== (site.fanInFanOut ? "in_out" : "out_in");
}

/** Element type that the operand's reader gets: the weight's, or what a Cast on the way makes of it. */
export function operandType(graph: Graph, operand: Operand): "float32" | "float16" | "float64" | "bfloat16" {
  const direct = operand.node.inputs[operand.index] ?? "";
  const own = operand.packed?.type ?? graph.initializers.get(operand.initializer)?.type;
  const isDirect = operand.product !== undefined || graph.initializers.has(direct);
  const type = isDirect ? own : (castTarget(graph, direct) ?? own);
  if (type === "float32" || type === "float16" || type === "float64" || type === "bfloat16") return type;
  throw new PeftError(
    "OPERAND_TYPE",
    `The weight "${operand.initializer}" is ${type}; only floating-point weights can be trained.`,
  );
}

function castTarget(graph: Graph, name: string): "float32" | "float16" | "float64" | "bfloat16" | undefined {
  const byCode: Readonly<Record<number, "float32" | "float16" | "float64" | "bfloat16">> = {
    1: "float32",
    10: "float16",
    11: "float64",
    16: "bfloat16",
  };
  let current = name;
  for (let depth = 0; depth < 8; depth++) {
    const producer = graph.nodes.find((node) => node.outputs.includes(current));
    const to = producer?.op === "Cast" ? producer.attributes["to"] : undefined;
    if (to?.type === "int") return byCode[Number(to.value)];
    if (!producer) return undefined;
    current = producer.inputs[0] ?? "";
  }
  return undefined;
}

/** New names for values of the graph that have the name of a parameter. */
function freeNames(graph: Graph, wanted: readonly string[]): Map<string, string> {
  const taken = new Set([
    ...graph.initializers.keys(),
    ...graph.inputs.map((v) => v.name),
    ...graph.nodes.flatMap((n) => n.outputs),
  ]);
  const fixed = new Set([...graph.inputs.map((v) => v.name), ...graph.outputs.map((v) => v.name)]);
  const renamed = new Map<string, string>();
  for (const name of wanted) {
    if (!taken.has(name)) continue;
    if (fixed.has(name)) {
      throw new PeftError(
        "DUPLICATE_VALUE",
        `"${name}" is an input or output of the model and the name of an adapter tensor.`,
      );
    }
    let other = `${name}:frozen`;
    while (taken.has(other)) other = `${other}'`;
    taken.add(other);
    renamed.set(name, other);
  }
  return renamed;
}
