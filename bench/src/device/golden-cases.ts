import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Runtime, readSafetensors, toFloat32Array } from "@onnx-peft/core";
import { compareWithGolden, goldenGradients } from "@onnx-peft/core/testing";

/** |found - PyTorch's| / |PyTorch's|; gradients as one vector. */
export interface GoldenDistance {
  readonly loss: number;
  readonly gradients: number;
}

/** As the tests of these models ask of the CPU. */
const LIMIT = 1e-4;

export const isEqual = ({ loss, gradients }: GoldenDistance): boolean => Math.max(loss, gradients) <= LIMIT;

const golden = fileURLToPath(new URL("../../../parity/golden/", import.meta.url));

/** Gradients of LoRA over an export of one of parity/golden/models. */
async function modelDistance(name: string, file: string, runtime: Runtime): Promise<GoldenDistance> {
  const { tensors } = await readSafetensors(join(golden, `${name}.safetensors`));
  const found = await goldenGradients({ folder: golden, name, file, group: "lora", tensors }, runtime);
  const prefix = "lora.grad.base_model.model.";
  let [difference, norm] = [0, 0];
  for (const [key, tensor] of tensors) {
    if (!key.startsWith(prefix)) continue;
    const own = found.gradients.get(key.slice(prefix.length));
    toFloat32Array(tensor).forEach((x, i) => {
      difference += ((own?.[i] ?? Number.NaN) - x) ** 2;
      norm += x * x;
    });
  }
  const tensor = tensors.get("lora.loss");
  const reference = tensor ? Number(toFloat32Array(tensor)[0]) : Number.NaN;
  return { loss: Math.abs(found.loss - reference) / reference, gradients: Math.sqrt(difference / norm) };
}

/** Gradients of LoRA, and of all weights where the golden file has them, over one of parity/golden/exports. */
async function exportDistance(path: string, runtime: Runtime): Promise<GoldenDistance> {
  const { losses, gradients } = await compareWithGolden(join(golden, "exports", path), runtime);
  return { loss: Math.max(...Object.values(losses)), gradients: Math.max(...Object.values(gradients)) };
}

const model = (name: string, file: string) =>
  [`${name}/${file}`, (runtime: Runtime) => modelDistance(name, file, runtime)] as const;
const exported = (path: string) => [path, (runtime: Runtime) => exportDistance(path, runtime)] as const;

/** Models of parity/golden, one of each architecture, by file. */
export const goldenCases: ReadonlyMap<string, (runtime: Runtime) => Promise<GoldenDistance>> = new Map([
  model("bert", "model_dynamo.onnx"),
  model("bert", "model_torchscript.onnx"),
  model("distilbert", "model_dynamo.onnx"),
  model("roberta", "model_dynamo.onnx"),
  model("gpt2", "model_dynamo.onnx"),
  model("llama", "model_dynamo.onnx"),
  exported("albert/model_dynamo.onnx"),
  exported("modernbert/model_dynamo.onnx"),
  exported("t5/model_dynamo.onnx"),
  exported("vit/model_dynamo.onnx"),
  exported("clip/model_dynamo.onnx"),
  exported("segformer/model_dynamo.onnx"),
  exported("resnet/model_dynamo.onnx"),
  exported("wav2vec2/model_torchscript17.onnx"),
  exported("whisper-encoder/model_dynamo.onnx"),
]);
