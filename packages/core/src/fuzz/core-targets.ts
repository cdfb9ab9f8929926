import type { FuzzTarget } from "../testing/fuzz/target.ts";
import { jsonTarget } from "./fuzz-json.ts";
import { onnxTarget } from "./fuzz-onnx.ts";
import { onnxAdapterTarget } from "./fuzz-onnx-adapter.ts";
import { patternTarget } from "./fuzz-pattern.ts";
import { peftTarget } from "./fuzz-peft.ts";
import { safetensorsTarget } from "./fuzz-safetensors.ts";

/** Every parser of this package, by the name that `npm run fuzz -- --parser` takes. */
export const fuzzTargets: Readonly<Record<string, () => FuzzTarget>> = {
  onnx: onnxTarget,
  safetensors: safetensorsTarget,
  peft: peftTarget,
  "onnx-adapter": onnxAdapterTarget,
  json: jsonTarget,
  pattern: patternTarget,
};
