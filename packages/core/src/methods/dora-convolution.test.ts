import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { fromPeft } from "../adapters/peft-files.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { lora } from "./lora.ts";

/** DoRA of peft at convolutions of three, two and one axes; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/convolution-methods", import.meta.url));
const model = await readModel(join(golden, "model.onnx"));

test("gradients at convolutions are those of peft, with the norms as constants", async () => {
  const adapter = fromPeft(await readPeftFolder(join(golden, "dora")));
  const { tensors } = await readSafetensors(join(golden, "dora/golden.safetensors"));
  const tensor = (name: string): RuntimeTensor => ({
    type: "float32",
    dims: tensors.get(name)!.dims,
    data: toFloat32Array(tensors.get(name)!),
  });
  const adapted = injectAdapter(model, { method: lora, config: adapter.config });
  const { g, outputs } = adapted;
  const logits = outputs.get("logits")!;
  const gradient = g.input("d_logits", "float32", logits.shape);
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: logits, gradient }], wanted).forEach((d, i) => {
    g.output(d, `d:${wanted[i]!.name}`);
  });
  const session = await openBuilder(g);
  const found = await session.run({
    pixels: tensor("input.pixels"),
    d_logits: tensor("gradient.logits"),
    ...Object.fromEntries(
      [...adapter.tensors].map(([name, { dims, data }]) => [name, { type: "float32", dims, data } as const]),
    ),
  });
  await session.close();
  expect(wanted.length).toBe(12);
  for (const { name } of wanted) {
    const file = name.endsWith("lora_magnitude_vector") ? `${name}.weight` : name;
    const [ours, theirs] = [found[`d:${name}`]!.data as Float32Array, tensor(`gradient.base_model.model.${file}`).data];
    const scale = Math.max(...(theirs as Float32Array).map(Math.abs));
    const worst = ours.reduce((w, v, i) => Math.max(w, Math.abs(v - Number(theirs[i]))), 0);
    expect(worst / scale, name).toBeLessThan(1e-5);
  }
});

test("what peft refuses is refused", () => {
  const inject = (config: object) => () =>
    injectAdapter(model, { method: lora, config: { r: 2, targetModules: ["grouped"], ...config } });
  expect(inject({ useDora: true })).toThrow(/in 2 groups, and the change reaches across them/);
  expect(inject({ useDora: true, loraBias: true })).toThrow(/loraBias cannot be combined with useDora/);
});
