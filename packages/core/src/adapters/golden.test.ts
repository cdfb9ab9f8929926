import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { writePeftFolder } from "../formats/peft/write-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { lora } from "../methods/lora.ts";
import type { TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { injectAdapter } from "./inject.ts";
import { fromPeft, toPeft } from "./peft-files.ts";

/** Outputs of PyTorch over the golden models, and adapters that peft wrote; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const names = ["bert", "bert-token", "bert-model", "distilbert", "roberta", "xlm-roberta", "gpt2", "llama"];
const files = names.flatMap((name) =>
  readdirSync(join(golden, "models", name, "onnx")).map((file) => ({ name, file })),
);

type Tensors = ReadonlyMap<string, TensorData>;

async function outputOf(session: RuntimeSession, name: string, tensors: Tensors, more: Record<string, RuntimeTensor>) {
  const feeds = { ...more };
  for (const input of session.inputNames) {
    const tensor = tensors.get(`input.${input}`);
    if (!tensor) continue;
    feeds[input] = { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
  }
  const result = (await session.run(feeds, [name]))[name]!;
  await session.close();
  return result;
}

function expectClose(found: RuntimeTensor, expected: TensorData, bound: number): void {
  expect(found.dims).toEqual(expected.dims);
  const values = found.data as Float32Array;
  const difference = toFloat32Array(expected).reduce((w, v, i) => Math.max(w, Math.abs(v - values[i]!)), 0);
  expect(difference).toBeLessThan(bound);
}

/** Their losses and gradients are in gradients.golden.test.ts. */
describe.each(files)("$name/$file", ({ name, file }) => {
  test("outputs, as it is and with LoRA injected, are PyTorch's", async () => {
    const model = await readModel(join(golden, "models", name, "onnx", file));
    const { tensors } = await readSafetensors(join(golden, `${name}.safetensors`));
    const output = model.graph.outputs[0]!.name;
    const plain = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
    expectClose(await outputOf(plain, output, tensors, {}), tensors.get(`output.${output}`)!, 1e-5);
    const { config } = JSON.parse(readFileSync(join(golden, `${name}.json`), "utf8")).lora;
    const adapted = injectAdapter(model, {
      method: lora,
      config: { r: config.r, alpha: config.lora_alpha, targetModules: config.target_modules },
    });
    adapted.g.output(adapted.outputs.get(output)!, "adapted");
    const feeds = adapted.parameters.map(({ name: key, shape }): [string, RuntimeTensor] => {
      const data = toFloat32Array(tensors.get(`lora.adapter.base_model.model.${key}`)!);
      return [key, { type: "float32", dims: shape, data }];
    });
    const written = [...tensors.keys()].filter((key) => key.startsWith("lora.adapter."));
    expect(feeds.length).toBe(written.length);
    const session = await openBuilder(adapted.g);
    const found = await outputOf(session, "adapted", tensors, Object.fromEntries(feeds));
    expectClose(found, tensors.get(`lora.output.${output}`)!, 1e-5);
  });
});

describe.each(readdirSync(join(golden, "adapters")))("peft's adapter %s", (name) => {
  test("read, written to a folder and read again: the same tensors, an equivalent config", async () => {
    const source = join(golden, "adapters", name);
    const read = await readPeftFolder(source);
    const temporary = await mkdtemp(join(tmpdir(), "onnx-peft-"));
    try {
      const folder = join(temporary, "adapter");
      await writePeftFolder(folder, toPeft(fromPeft(read)));
      const again = await readPeftFolder(folder);
      // peft writes null for what was not given, and leaving a field out means the same to it.
      const given = (config: Record<string, unknown>) => Object.entries(config).filter(([, value]) => value !== null);
      expect(Object.fromEntries(given(again.config))).toMatchObject(Object.fromEntries(given(read.config)));
      const added = given(again.config).filter(([field]) => !(field in read.config));
      expect(added).toEqual([]);
      const [before, after] = await Promise.all(
        [source, folder].map((path) => readSafetensors(join(path, "adapter_model.safetensors"))),
      );
      expect([...after!.tensors.keys()].sort()).toEqual([...before!.tensors.keys()].sort());
      for (const [key, tensor] of before!.tensors) {
        const own = after!.tensors.get(key)!;
        expect({ key, type: own.type, dims: own.dims }).toEqual({ key, type: tensor.type, dims: tensor.dims });
        expect(toFloat32Array(own)).toEqual(toFloat32Array(tensor));
      }
      expect(JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8")).inference_mode).toBe(true);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  });
});
