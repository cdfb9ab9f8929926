import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { goldenGradients, goldenGroups } from "../testing/golden-model.ts";

/** Gradients of PyTorch over the golden models; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const names = ["bert", "bert-token", "bert-model", "distilbert", "roberta", "xlm-roberta", "gpt2", "llama"];
const files = [
  ...names.flatMap((name) => readdirSync(join(golden, "models", name, "onnx")).map((file) => ({ name, file }))),
  { name: "bert", file: "../packing/model_packing.onnx" }, // in a folder of its own, as no CPU runs it as it is
];

const fileKey = (group: string, name: string): string =>
  group === "lora" ? `lora.grad.base_model.model.${name}` : `${group}.grad.${name.replace("ln_tuning_layers.", "")}`;

describe.each(files)("$name/$file", ({ name, file }) => {
  // The older opset differs in its norms only: one group is enough there.
  test.each(file.includes("opset17") ? ["lora"] : Object.keys(goldenGroups))(
    "%s gradients are PyTorch's",
    async (group) => {
      const { tensors } = await readSafetensors(join(golden, `${name}.safetensors`));
      const expected = new Map([...tensors].filter(([key]) => key.startsWith(`${group}.grad.`)));
      if (expected.size === 0) return; // Llama has no biases
      const { gradients, loss } = await goldenGradients({ folder: golden, name, file, group, tensors });
      const reference = toFloat32Array(tensors.get(group === "lora" ? "lora.loss" : "loss")!)[0]!;
      expect(Math.abs(loss - reference) / reference).toBeLessThan(1e-5);
      // An output weight tied to the embedding is one parameter in PyTorch and two in the file: the gradients add up.
      const tied = tensors.has(fileKey(group, "lm_head.weight")) ? undefined : gradients.get("lm_head.weight");
      const config = JSON.parse(readFileSync(join(golden, "models", name, "config.json"), "utf8"));
      let [difference, norm] = [0, 0];
      for (const [key, tensor] of expected) {
        const found = [...gradients].find(([parameter]) => fileKey(group, parameter) === key);
        if (!found) {
          expect({ name, key }).toEqual({ name: "bert-model", key: expect.stringContaining("pooler") });
          continue;
        }
        const [parameter, values] = found;
        const width = tensor.dims.at(-1)!;
        // PyTorch gives no gradient to the row of an embedding's padding token.
        const isPadded =
          /word_embeddings/.test(parameter) || (/roberta/.test(name) && /position_embeddings/.test(parameter));
        const padding = isPadded ? config.pad_token_id * width : -1;
        toFloat32Array(tensor).forEach((x, i) => {
          if (padding >= 0 && i >= padding && i < padding + width) return;
          const own = values[i]! + (tied && parameter.endsWith("wte.weight") ? tied[i]! : 0);
          difference += (own - x) ** 2;
          norm += x * x;
        });
      }
      expect(norm).toBeGreaterThan(0);
      expect(Math.sqrt(difference / norm)).toBeLessThan(1e-4);
    },
  );
});

test("the golden files are there", () => {
  expect(existsSync(golden)).toBe(true);
  expect(files.length).toBeGreaterThanOrEqual(24);
});
