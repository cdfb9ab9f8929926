import * as ort from "onnxruntime-node";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { encodeModel } from "../onnx/write.ts";

/** Whether an execution provider opens a graph that nothing can be wrong with: tells a missing device from a bad graph. */
export async function providerStarts(provider: string): Promise<boolean> {
  const g = createBuilder();
  const x = g.input("x", "float32", [2]);
  g.output(g.add(x, x), "y");
  try {
    const session = await ort.InferenceSession.create(encodeModel(toModel(g.finish(), g.opset)), {
      executionProviders: [provider, "cpu"],
      logSeverityLevel: 4,
    });
    await session.release();
    return true;
  } catch {
    return false;
  }
}
