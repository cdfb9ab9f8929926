import type { Builder } from "../graph/builder.ts";
import type { ForwardInput, SublayerValues } from "../methods/forward-input.ts";
import type { Graph, Node, Value } from "../onnx/ir.ts";
import { dequantizeInGraph } from "../quantization/dequantize-in-graph.ts";
import { packedWeightOf } from "../quantization/packed-weight.ts";
import { readsFlipped } from "./replace-operands.ts";
import type { ExpertsUse, Operand, Site, SiteUse } from "./site.ts";

/**
 * The frozen module of a use as values of the graph under construction: weight ([out, in] for linear ones), bias, and the module
 * applied to another input. Nothing is added before a method asks.
 * @param inner name under which the last node's result stands in the graph.
 */
export function frozenValues(
  g: Builder,
  site: Site,
  use: SiteUse,
  inner: string,
): Pick<ForwardInput, "weight" | "bias" | "base" | "experts"> {
  // The nodes as they were added: operands may have been renamed on the way.
  const added = use.nodes.map((node, i) => {
    const output = i === use.nodes.length - 1 ? inner : (node.outputs[0] ?? "");
    return g.producerOf(g.value(output)) ?? node;
  });
  const operand = ({ node, index }: Operand): Value => {
    const position = use.nodes.findIndex((n) => n.outputs[0] === node.outputs[0]);
    return g.value((added[position] ?? node).inputs[index] ?? "");
  };
  const { experts } = use;
  return {
    ...(experts ? { experts: { ...experts, select: (values) => selected(g, use, added, experts, values) } } : {}),
    weight() {
      const { packed, product } = use.weight;
      if (packed && product) {
        const position = use.nodes.findIndex((n) => n.outputs[0] === use.weight.node.outputs[0]);
        const own = packedWeightOf(g, added[position] ?? use.weight.node) ?? packed;
        const dense = dequantizeInGraph(g, own, g.value(inner));
        return sliced(g, site.weightLayout === "in_out" ? g.transpose(dense, [1, 0]) : dense, use.weight);
      }
      const value = g.cast(operand(use.weight), "float32");
      const readsInOut = readsFlipped(site, use.weight) !== site.fanInFanOut;
      const isFlipped = site.kind === "linear" && readsInOut;
      return sliced(g, isFlipped ? g.transpose(value, [1, 0]) : value, use.weight);
    },
    bias: () => (use.bias ? sliced(g, g.cast(operand(use.bias), "float32"), use.bias) : null),
    base(x) {
      // The input may go by another name where it was added: rows of a batch in another order.
      const inputs = use.nodes.flatMap((node, i) =>
        node.inputs.flatMap((input, k) => (input === use.input ? [added[i]?.inputs[k] ?? input] : [])),
      );
      return applied(g, added, inputs, inner, g.cast(x, g.value(use.input).type));
    },
  };
}

/** Values [experts, ...] of the experts that a use picks. */
function selected(g: Builder, use: SiteUse, added: readonly Node[], { selection }: ExpertsUse, values: Value): Value {
  if (!selection) return values;
  const own = added[use.nodes.indexOf(selection)] ?? selection;
  const ids = g.value(own.inputs[1] ?? "");
  return own.op === "Gather" ? g.gather(values, ids) : g.gatherND(values, ids);
}

/** What nodes that make `to` of the value named `from` make of x, a value of the same type, in float32. They are added once more. */
function applied(g: Builder, nodes: readonly Node[], from: readonly string[], to: string, x: Value): Value {
  const renamed = new Map(from.map((name) => [name, x.name]));
  for (const [i, node] of nodes.entries()) {
    const results = g.addNode({
      ...node,
      name: `${x.name}/${node.name || node.op}`,
      inputs: node.inputs.map((name) => renamed.get(name) ?? name),
      outputs: node.outputs.map((name, k) => (name === "" ? "" : `${x.name}:base:${i}:${k}`)),
      attributes: { ...node.attributes },
    });
    const shown = node.outputs.filter((name) => name !== "");
    for (const [k, name] of shown.entries()) renamed.set(name, (results[k] as Value).name);
  }
  return g.cast(g.value(renamed.get(to) ?? ""), "float32");
}

/**
 * The residual stream beside the branch that a use ends, and the norm of their sum: its nodes come later in the graph than the branch's.
 * @param part what is read of the stream: all of it, or the rows that a method is applied to.
 */
export function sublayerAt(
  g: Builder,
  graph: Graph,
  { sublayer }: SiteUse,
  part: (value: Value) => Value,
): SublayerValues | null {
  if (!sublayer) return null;
  const outputs = new Set(sublayer.norm.map((node) => node.outputs[0]));
  const stream = (): Value => g.value(sublayer.residual);
  return {
    residual: () => g.cast(part(stream()), "float32"),
    norm(x) {
      const nodes = graph.nodes.filter((node) => outputs.has(node.outputs[0]));
      const [from, to] = [nodes[0]?.inputs[0], nodes.at(-1)?.outputs[0]];
      if (from === undefined || to === undefined) return x;
      return applied(g, nodes, [from], to, g.cast(x, stream().type));
    },
  };
}

/** The module's part of a weight [out, in] or bias [out] that it shares with others. */
const sliced = (g: Builder, value: Value, { slice }: Operand): Value =>
  slice ? g.slice(value, [slice.start], [slice.start + slice.size], [0]) : value;
