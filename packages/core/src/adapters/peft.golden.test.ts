import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { methodOf } from "../methods/registry.ts";
import type { Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { applyAdapter } from "./apply-adapter.ts";
import { injectAdapter } from "./inject.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

/** Adapters made and run by peft over the BERT of the golden models, and over convolutions of one to three axes; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const foldersOf = (kind: string): string[] =>
  existsSync(join(golden, kind))
    ? readdirSync(join(golden, kind)).flatMap((name) => (name.endsWith(".onnx") ? [] : [join(kind, name)]))
    : [];
const folders = ["adapters", "methods", "convolution-methods"].flatMap(foldersOf);
const berts = ["model_torchscript.onnx", "model_dynamo.onnx", "model_optimized.onnx", "model_extended.onnx"];
/** Exports of the model that an adapter was made over. */
const modelsOf = (folder: string): string[] =>
  folder.startsWith("convolution-methods")
    ? ["convolution-methods/model.onnx"]
    : berts.map((name) => join("models/bert/onnx", name));

test("there are adapters made by peft", () => {
  expect(folders).toEqual(
    expect.arrayContaining(["ln-tuning", "lora", "lora-patterns", "lora-regex"].map((n) => join("adapters", n))),
  );
});

describe.each(folders)("%s", (folder) => {
  const path = join(golden, folder);

  test.each(modelsOf(folder).map((file) => [basename(file), file] as const))(
    "over %s gives peft's logits, merged and fed",
    async (_, file) => {
      const model = await readModel(join(golden, file));
      const adapter = fromPeft(await readPeftFolder(path));
      const { tensors } = await readSafetensors(join(path, "golden.safetensors"));
      const input = (name: string): RuntimeTensor => {
        const tensor = tensors.get(`input.${name}`)!;
        if (tensor.type === "float32") return { type: "float32", dims: tensor.dims, data: toFloat32Array(tensor) };
        return { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
      };
      const run = async (m: Model, feeds: Record<string, RuntimeTensor> = {}): Promise<Float32Array> => {
        const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
        const all = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name] ?? input(name)]));
        const result = (await session.run(all, ["logits"]))["logits"]!.data as Float32Array;
        await session.close();
        return result;
      };
      const close = (a: Float32Array, name: string): void => {
        const b = toFloat32Array(tensors.get(name)!);
        expect(a.length).toBe(b.length);
        expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - b[i]!)), 0)).toBeLessThan(1e-5);
      };
      close(await run(model), "base.logits");
      close(await run(applyAdapter(model, adapter)), "output.logits");
      const swappable = makeSwappable(model, { method: methodOf(adapter.type), config: adapter.config });
      close(await run(swappable.model, adapterFeeds(swappable, adapter)), "output.logits");
      close(await run(swappable.model, adapterFeeds(swappable, null)), "base.logits");
    },
  );

  test("its config chooses exactly the modules, shapes and names of its file", async () => {
    const model = await readModel(join(golden, modelsOf(folder)[0]!));
    const adapter = fromPeft(await readPeftFolder(path));
    const adapted = injectAdapter(model, { method: methodOf(adapter.type), config: adapter.config });
    const shapes = (list: Iterable<readonly [string, readonly number[]]>) =>
      [...list].sort(([a], [b]) => (a < b ? -1 : 1));
    const parameters = adapted.plans.flatMap((plan) => [...plan.shared, ...plan.parameters]);
    const saved = new Map(parameters.filter((p) => p.spec.saved !== false).map((p) => [p.fileName, p.shape]));
    expect(shapes(saved)).toEqual(shapes([...adapter.tensors].map(([name, t]) => [name, t.dims] as const)));
  });

  test("written again it is the same file", async () => {
    const read = await readPeftFolder(path);
    const again = toPeft(fromPeft(read));
    // peft writes null where nothing is given; what is left out takes the same default.
    for (const [field, value] of Object.entries(read.config)) {
      if (value !== null) expect({ field, value: again.config[field] }).toEqual({ field, value });
    }
    // Copies of shared tensors under single modules are not written again.
    const isCopy = (name: string): boolean =>
      !name.startsWith("base_model.") && again.tensors.has(`base_model.${name.split(".").at(-1)}`);
    const own = [...read.tensors].filter(([name]) => !isCopy(name));
    expect([...again.tensors.keys()].sort()).toEqual(own.map(([name]) => name).sort());
    for (const [name, tensor] of own) expect(toNumbers(again.tensors.get(name)!)).toEqual(toNumbers(tensor));
  });
});
