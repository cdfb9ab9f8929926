import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { poly } from "../methods/poly.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { polyTask } from "./poly-task.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";

const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const onnx = join(golden, "models/bert/onnx");

describe.each(readdirSync(join(golden, "poly")))("%s", (name) => {
  const folder = join(golden, "poly", name);

  test.each(readdirSync(onnx))(
    "over %s rows of several tasks give peft's logits, fed and task by task",
    async (file) => {
      const model = await readModel(join(onnx, file));
      const adapter = fromPeft(await readPeftFolder(folder));
      const { tensors } = await readSafetensors(join(folder, "golden.safetensors"));
      const feeds: Record<string, RuntimeTensor> = {};
      for (const [key, tensor] of tensors) {
        if (!key.startsWith("input.")) continue;
        const data = BigInt64Array.from(toNumbers(tensor), BigInt);
        feeds[key.slice("input.".length)] = { type: "int64", dims: tensor.dims, data };
      }
      const swappable = makeSwappable(model, { method: poly, config: adapter.config });
      const run = async (source: typeof model, more: Record<string, RuntimeTensor> = {}): Promise<Float32Array> => {
        const session = await onnxruntimeNode.open(encodeModel(source), { threads: 1 });
        const all = { ...feeds, ...more };
        const own = Object.fromEntries(session.inputNames.map((input) => [input, all[input]!]));
        const { logits } = await session.run(own, ["logits"]);
        await session.close();
        return logits!.data as Float32Array;
      };
      const distance = (a: Float32Array, key: string, rows: (row: number) => boolean = () => true): number => {
        const b = toFloat32Array(tensors.get(key)!);
        const width = tensors.get(key)!.dims[1]!;
        return a.reduce((w, v, i) => (rows(Math.floor(i / width)) ? Math.max(w, Math.abs(v - b[i]!)) : w), 0);
      };
      const found = await run(swappable.model, adapterFeeds(swappable, adapter));
      expect(distance(found, "base.logits")).toBeGreaterThan(1e-2);
      expect(distance(found, "output.logits")).toBeLessThan(1e-5);
      expect(distance(await run(swappable.model, adapterFeeds(swappable, null)), "base.logits")).toBeLessThan(1e-5);
      if (file !== "model_torchscript.onnx") return;
      const tasks = toNumbers(tensors.get("input.poly.task_ids")!);
      for (const task of new Set(tasks)) {
        const merged = await run(mergeAdapter(model, polyTask(adapter, task)));
        expect(distance(merged, "output.logits", (row) => tasks[row] === task)).toBeLessThan(1e-5);
        expect(distance(merged, "output.logits", (row) => tasks[row] !== task)).toBeGreaterThan(1e-4);
      }
    },
  );

  test("names, shapes and files are peft's", async () => {
    const model = await readModel(join(onnx, "model_torchscript.onnx"));
    const read = await readPeftFolder(folder);
    const adapter = fromPeft(read);
    const adapted = injectAdapter(model, { method: poly, config: adapter.config });
    expect(Object.fromEntries(adapted.parameters.map((p) => [p.name, p.shape]))).toEqual(
      Object.fromEntries([...adapter.tensors].map(([key, { dims }]) => [key, dims])),
    );
    const again = toPeft(adapter);
    for (const [field, value] of Object.entries(read.config)) {
      if (value !== null) expect({ field, value: again.config[field] }).toEqual({ field, value });
    }
    expect([...again.tensors.keys()].sort()).toEqual([...read.tensors.keys()].sort());
  });

  test("other adapters and tasks that there are not are refused", async () => {
    const adapter = fromPeft(await readPeftFolder(folder));
    expect(() => polyTask({ ...adapter, type: "LORA" }, 0)).toThrow(expect.objectContaining({ code: "NOT_POLY" }));
    for (const task of [-1, 3, 0.5])
      expect(() => polyTask(adapter, task)).toThrow(expect.objectContaining({ code: "UNKNOWN_TASK" }));
  });
});
