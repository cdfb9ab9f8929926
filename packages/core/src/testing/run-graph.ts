import type { Builder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, Runtime, RuntimeSession } from "../runtime/runtime.ts";

/** Opens what a builder holds so far. */
export const openBuilder = (g: Builder, runtime: Runtime = onnxruntimeNode): Promise<RuntimeSession> =>
  runtime.open(encodeModel(toModel(g.finish({ dropUnusedInputs: true }), g.opset)), { threads: 1 });

/** Runs what a builder holds so far once. Feeds of inputs that the graph does not use are ignored. */
export async function runBuilder(g: Builder, feeds: Feeds): Promise<Outputs> {
  const session = await openBuilder(g);
  try {
    return await session.run(
      Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))),
    );
  } finally {
    await session.close();
  }
}
