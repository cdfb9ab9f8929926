import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { listMethods, methodOf } from "../methods/registry.ts";
import type { TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { injectAdapter } from "./inject.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

/** Adapters made and run by peft over the tiny BERT, RoBERTa, GPT-2 and Llama; see parity/generators/prompts.py. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const known = new Set(listMethods().map((method) => method.type));
const folders = (existsSync(join(golden, "prompts")) ? readdirSync(join(golden, "prompts")) : []).filter((name) =>
  known.has(
    {
      prefix: "PREFIX_TUNING",
      prompt: "PROMPT_TUNING",
      p: "P_TUNING",
      multitask: "MULTITASK_PROMPT_TUNING",
      adaption: "ADAPTION_PROMPT",
    }[name.split("-")[1] ?? ""] ?? "",
  ),
);
const exportsOf = (base: string): string[] => readdirSync(join(golden, "models", base, "onnx"));

test("there are prompts made by peft", () => {
  expect(folders).toEqual(expect.arrayContaining(["bert-prefix", "gpt2-prefix", "llama-prefix", "roberta-prefix"]));
});

describe.each(folders)("%s", (folder) => {
  const path = join(golden, "prompts", folder);
  const base = folder.split("-")[0] ?? "";
  const goldenTensors = async (): Promise<ReadonlyMap<string, TensorData>> =>
    (await readSafetensors(join(path, "golden.safetensors"))).tensors;

  test.each(exportsOf(base))(
    "over %s gives peft's logits at the real tokens, and the base's without it",
    async (file) => {
      const model = await readModel(join(golden, "models", base, "onnx", file));
      const adapter = fromPeft(await readPeftFolder(path));
      const tensors = await goldenTensors();
      const swappable = makeSwappable(model, { method: methodOf(adapter.type), config: adapter.config });
      const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
      const run = async (feeds: Record<string, RuntimeTensor>): Promise<Float32Array> => {
        const input = (name: string): RuntimeTensor => {
          const tensor = tensors.get(`input.${name.split(".").at(-1)}`)!;
          return { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) };
        };
        const all = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name] ?? input(name)]));
        return (await session.run(all, ["logits"]))["logits"]!.data as Float32Array;
      };
      const mask = toNumbers(tensors.get("input.attention_mask")!);
      const distance = (found: Float32Array, name: string): number => {
        const expected = toFloat32Array(tensors.get(name)!);
        expect(found.length).toBe(expected.length);
        // Rows of padding are unspecified: RoBERTa's positions differ there.
        const width = expected.length / mask.length;
        const seen = (i: number): boolean => Number.isInteger(width) === false || mask[Math.floor(i / width)] === 1;
        return found.reduce((worst, v, i) => (seen(i) ? Math.max(worst, Math.abs(v - expected[i]!)) : worst), 0);
      };
      expect(distance(await run(adapterFeeds(swappable, adapter)), "output.logits")).toBeLessThan(1e-5);
      expect(distance(await run(adapterFeeds(swappable, null)), "base.logits")).toBeLessThan(1e-5);
      expect(distance(await run(adapterFeeds(swappable, null)), "output.logits")).toBeGreaterThan(1e-2);
      await session.close();
    },
  );

  test("its config makes exactly the tensors of its file, and written again it is the same file", async () => {
    const [file = ""] = exportsOf(base);
    const model = await readModel(join(golden, "models", base, "onnx", file));
    const read = await readPeftFolder(path);
    const adapter = fromPeft(read);
    const adapted = injectAdapter(model, { method: methodOf(adapter.type), config: adapter.config });
    const sorted = (list: Iterable<readonly [string, readonly number[]]>) =>
      [...list].sort(([a], [b]) => (a < b ? -1 : 1));
    expect(sorted(adapted.parameters.map((p) => [p.name, p.shape] as const))).toEqual(
      sorted([...read.tensors].map(([name, { dims }]) => [name, dims] as const)),
    );
    const again = toPeft(adapter);
    for (const [field, value] of Object.entries(read.config)) {
      if (value !== null) expect({ field, value: again.config[field] }).toEqual({ field, value });
    }
    expect(sorted([...again.tensors].map(([name, { dims }]) => [name, dims] as const))).toEqual(
      sorted([...read.tensors].map(([name, { dims }]) => [name, dims] as const)),
    );
    for (const [name, tensor] of read.tensors) expect(toNumbers(again.tensors.get(name)!)).toEqual(toNumbers(tensor));
  });
});
