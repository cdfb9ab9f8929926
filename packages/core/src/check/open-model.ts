import type { Model } from "../onnx/ir.ts";
import type { Runtime, RuntimeSession } from "../runtime/runtime.ts";
import { packGraph } from "../train/graph-file.ts";

/** Opens a model with its weights left in the files they are in. */
export function openModel(runtime: Runtime, model: Model, threads: number | undefined): Promise<RuntimeSession> {
  const { bytes, externalDataFolder } = packGraph(model);
  return runtime.open(bytes, {
    quiet: true, // sizes are tried until one works
    ...(threads === undefined ? {} : { threads }),
    ...(externalDataFolder === undefined ? {} : { externalDataFolder }),
  });
}
