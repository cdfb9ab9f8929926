import { importGraph } from "../graph/import-graph.ts";
import { decodeModel } from "../onnx/decode.ts";
import type { Model, Node } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import type { Feeds, Outputs, Runtime, RuntimeTensor } from "../runtime/runtime.ts";
import { type GraphFile, type GraphPath, openableGraph, packGraph } from "./graph-file.ts";

/** Where a graph first stops being finite. */
export interface NonFiniteOrigin {
  readonly value: string;
  /** Name and operator of the node that made it; null for what was fed. */
  readonly node: string | null;
  readonly op: string | null;
}

const GROUP = 64;

/**
 * Runs a graph once more with its intermediate values as outputs, a group at a time, and names the first that holds NaN
 * or infinity: an input that was fed, or else a node's output. A value whose only non-finite entries are -Infinity is
 * often a mask, so a later NaN or +Infinity goes before it. Slow, and called only when a run has gone wrong.
 */
export async function locateNonFinite(
  runtime: Runtime,
  graph: GraphFile | GraphPath,
  feeds: Feeds,
): Promise<NonFiniteOrigin | null> {
  for (const [value, tensor] of Object.entries(feeds)) {
    if (worst(tensor) === "bad") return { value, node: null, op: null };
  }
  const model = await modelOf(graph);
  const typed = importGraph(model.graph, model.opsets.get("") ?? 21);
  const isFloat = (name: string): boolean => name !== "" && typed.has(name) && typed.value(name).type === "float32";
  const produced = model.graph.nodes.flatMap((node) =>
    node.outputs.filter(isFloat).map((name): { name: string; node: Node } => ({ name, node })),
  );
  let mask: NonFiniteOrigin | null = null;
  for (let start = 0; start < produced.length; start += GROUP) {
    const group = produced.slice(start, start + GROUP);
    const outputs = group.map(({ name }) => typed.value(name));
    const results = await runOnce(runtime, { ...model, graph: { ...model.graph, outputs } }, feeds);
    for (const { name, node } of group) {
      const found = worst(results[name]);
      if (found === "finite") continue;
      const origin = { value: name, node: node.name, op: node.op };
      if (found === "bad") return origin;
      mask ??= origin;
    }
  }
  return mask;
}

/** Weights stay in their files. Links of that folder are followed: the engine has read through them already. */
async function modelOf(graph: GraphFile | GraphPath): Promise<Model> {
  const folder = graph.externalDataFolder;
  const source = await openableGraph(graph);
  if (typeof source === "string") return readModel(source);
  return decodeModel(source, folder === undefined ? {} : { folder, allowLinksInto: [folder] });
}

async function runOnce(runtime: Runtime, model: Model, feeds: Feeds): Promise<Outputs> {
  const { bytes, ...place } = packGraph(model);
  const session = await runtime.open(bytes, place);
  try {
    return await session.run(
      Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))),
    );
  } finally {
    await session.close();
  }
}

function worst(tensor: RuntimeTensor | undefined): "finite" | "masked" | "bad" {
  if (!(tensor?.data instanceof Float32Array)) return "finite";
  let found: "finite" | "masked" = "finite";
  for (const value of tensor.data) {
    if (Number.isFinite(value)) continue;
    if (value !== Number.NEGATIVE_INFINITY) return "bad";
    found = "masked";
  }
  return found;
}
