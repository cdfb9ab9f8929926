import { PeftError } from "../errors.ts";
import type { Model } from "./ir.ts";

/** The version of the ONNX domain a model is written in. @throws PeftError OPSET */
export function opsetOf(model: Model): number {
  const opset = model.opsets.get("") ?? model.opsets.get("ai.onnx");
  if (opset === undefined) throw new PeftError("OPSET", "The model does not say which opset of ONNX it is written in.");
  return opset;
}
