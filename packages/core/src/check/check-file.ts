import { PeftError } from "../errors.ts";
import { readModel } from "../onnx/read.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type CheckModelOptions, checkModel, type ModelCheck } from "./check-model.ts";

/**
 * {@link checkModel} for a file, whatever is in it: one that cannot be read is not trainable, and the reason says why.
 * @example
 * const { verdict, reasons } = await checkFile("model.onnx", onnxruntimeNode);
 */
export async function checkFile(path: string, runtime: Runtime, options: CheckModelOptions = {}): Promise<ModelCheck> {
  try {
    return await checkModel(await readModel(path), runtime, options);
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    return unreadable(error.message);
  }
}

const unreadable = (reason: string): ModelCheck => ({
  verdict: "not trainable",
  reasons: [reason],
  opset: null,
  exporter: "unknown",
  precision: "unknown",
  nodes: 0,
  branches: [],
  freed: [],
  inputs: [],
  outputs: [],
  sites: [],
  sizes: null,
  unknownOperators: [],
  operatorsInTheWay: [],
  kinds: [],
  memory: null,
  trained: "",
  memorySizes: {},
  step: null,
});
