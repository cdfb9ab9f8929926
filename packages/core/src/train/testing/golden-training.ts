import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { initialParameters } from "../../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../../adapters/inject.ts";
import { readSafetensors } from "../../formats/safetensors/read.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import { lora } from "../../methods/lora.ts";
import type { Model } from "../../onnx/ir.ts";
import { toNumbers } from "../../onnx/tensor.ts";
import type { Feeds, RuntimeTensor } from "../../runtime/runtime.ts";
import { buildTrainingProgram } from "../program.ts";

/** Models and numbers made by PyTorch; see parity/README.md. */
export const golden = fileURLToPath(new URL("../../../../../parity/golden", import.meta.url));

/** LoRA of rank 2 on some linear layers; cross-entropy of every row of logits. */
export function loraTraining(model: Model, targetModules: string, dropout: number) {
  const adapted = injectAdapter(model, {
    method: lora,
    config: { r: 2, dropout, targetModules },
    wantedOutputs: ["logits"],
    training: true,
  });
  const { g } = adapted;
  const logits = g.value("logits");
  const labels = g.input("labels", "int64", logits.shape.slice(0, -1));
  const program = buildTrainingProgram(g, crossEntropy(g, { logits, labels }), trainableValues(adapted));
  const start = initialParameters(adapted, 7);
  // B starts at zero: with other values gradients reach A too.
  const parameters = Object.fromEntries(
    adapted.parameters.map(({ name, shape }): [string, RuntimeTensor] => {
      const data = (start.get(name) ?? new Float32Array()).map((x, i) => x + 0.01 * ((i % 7) - 3));
      return [name, { type: "float32", dims: shape, data }];
    }),
  );
  return { program, parameters };
}

/** The batch of a golden model, for the inputs of a program. */
export async function goldenFeeds(name: string, program: { inputs: readonly { name: string }[] }): Promise<Feeds> {
  const { tensors } = await readSafetensors(join(golden, `${name}.safetensors`));
  return Object.fromEntries(
    program.inputs.map(({ name: input }) => {
      const tensor = tensors.get(`input.${input}`)!;
      return [input, { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) }];
    }),
  );
}
