import { join } from "node:path";
import { type Model, quantizeModel, readModel, writeModel } from "@onnx-peft/core";

/** Storage of frozen linear layers. */
export type Storage = "int8" | "int4" | "nf4";

/** The model as it would come from a file, with its linear layers in a storage. */
export async function storedModel(folder: string, model: Model, type: Storage): Promise<Model> {
  const path = join(folder, "quantized.onnx");
  await writeModel(quantizeModel(model, { type }).model, path, { externalData: { fileName: "quantized.onnx_data" } });
  return readModel(path);
}
