import { importGraph } from "../graph/import-graph.ts";
import { decodeModel } from "../onnx/decode.ts";
import { encodeModel } from "../onnx/write.ts";
import type { Feeds, Runtime } from "../runtime/runtime.ts";
import type { TrainingProgram } from "./program.ts";

/** The first value of a graph, in its own order, that is not finite. */
export interface NonFiniteOrigin {
  readonly value: string;
  readonly node: string;
  readonly op: string;
}

const GROUP = 64;

/**
 * Runs the training graph once more with its intermediate values as outputs, a group at a time, and names the first that
 * holds NaN or infinity. Slow, and called only when a run has gone wrong.
 */
export async function locateNonFinite(runtime: Runtime, program: TrainingProgram, feeds: Feeds): Promise<NonFiniteOrigin | null> {
  const { bytes, externalDataFolder } = program.graph;
  const folder = externalDataFolder === undefined ? {} : { externalDataFolder };
  const model = decodeModel(bytes, externalDataFolder === undefined ? {} : { folder: externalDataFolder });
  const typed = importGraph(model.graph, model.opsets.get("") ?? 21);
  const produced = model.graph.nodes.flatMap((node) =>
    node.outputs.flatMap((name) => (name !== "" && typed.has(name) && typed.value(name).type === "float32" ? [{ name, node }] : [])),
  );
  for (let start = 0; start < produced.length; start += GROUP) {
    const group = produced.slice(start, start + GROUP);
    const outputs = group.map(({ name }) => typed.value(name));
    const session = await runtime.open(encodeModel({ ...model, graph: { ...model.graph, outputs } }), folder);
    try {
      const results = await session.run(Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))));
      for (const { name, node } of group) {
        const data = results[name]?.data;
        if (data instanceof Float32Array && data.some((v) => !Number.isFinite(v))) return { value: name, node: node.name, op: node.op };
      }
    } finally {
      await session.close();
    }
  }
  return null;
}
