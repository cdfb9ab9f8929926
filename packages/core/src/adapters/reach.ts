import type { Graph, Node } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";
import type { Site } from "./site.ts";

const keepsContents = new Set([
  "Identity",
  "Reshape",
  "Squeeze",
  "Unsqueeze",
  "Flatten",
  "Cast",
  "Slice",
  "Split",
  "Transpose",
]);

/** Names of all values that the given outputs are computed from, themselves included. */
export function valuesBehind(graph: Graph, outputs: readonly string[]): Set<string> {
  const needed = new Set(outputs);
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const node = graph.nodes[i] as Node;
    if (node.outputs.some((name) => needed.has(name))) for (const name of readNames(node)) needed.add(name);
  }
  return needed;
}

/** True when one of the outputs depends on the site. */
export const isReached = (site: Site, behind: ReadonlySet<string>): boolean =>
  site.uses.some(({ output }) => behind.has(output)) || (site.uses.length === 0 && behind.has(site.output));

/** Values that an output shows with nothing but a change of shape or a selection: value name to output name. */
export function directOutputs(graph: Graph): Map<string, string> {
  const direct = new Map(graph.outputs.map(({ name }) => [name, name]));
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const node = graph.nodes[i] as Node;
    const shown = node.outputs.map((name) => direct.get(name)).find((name) => name !== undefined);
    const [source] = node.inputs;
    if (shown !== undefined && source && keepsContents.has(node.op) && node.domain === "") direct.set(source, shown);
  }
  return direct;
}
