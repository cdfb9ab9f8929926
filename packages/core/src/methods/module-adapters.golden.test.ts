import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Adapter } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "../adapters/select.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import type { TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { whyNoDelta } from "./method.ts";
import { methodOf } from "./registry.ts";

/** Transcriptions in PyTorch of adapters that peft does not have; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
interface Case {
  readonly base: string;
  readonly type: string;
  readonly config: AdapterConfigInput;
}
const cases = Object.entries(
  JSON.parse(readFileSync(join(golden, "module-adapters/configs.json"), "utf8")) as Record<string, Case>,
);

async function logitsOf(session: RuntimeSession, tensors: ReadonlyMap<string, TensorData>, feeds = {}) {
  const all: Record<string, RuntimeTensor> = { ...feeds };
  for (const name of session.inputNames) {
    const input = tensors.get(`input.${name}`);
    if (input) all[name] = { type: "int64", dims: input.dims, data: BigInt64Array.from(toNumbers(input), BigInt) };
  }
  const { logits } = await session.run(all, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
}

const distance = (a: Float32Array, b: Float32Array): number => {
  expect(a.length).toBe(b.length);
  return a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);
};

describe.each(cases)("%s", (name, { base, type, config }) => {
  test.each(readdirSync(join(golden, "models", base, "onnx")))("over %s gives PyTorch's logits", async (file) => {
    const model = await readModel(join(golden, "models", base, "onnx", file));
    const { tensors } = await readSafetensors(join(golden, "module-adapters", `${name}.safetensors`));
    const method = methodOf(type);
    const adapter: Adapter = {
      type,
      config: parseAdapterConfig(method, config),
      tensors: new Map(
        [...tensors].flatMap(([key, tensor]) =>
          key.startsWith("adapter.")
            ? [[key.slice("adapter.".length), { dims: tensor.dims, data: toFloat32Array(tensor) }] as const]
            : [],
        ),
      ),
    };
    const expected = toFloat32Array(tensors.get("output.logits")!);
    expect(distance(toFloat32Array(tensors.get("base.logits")!), expected)).toBeGreaterThan(0.02);
    const { g, outputs, parameters } = injectAdapter(model, { method, config });
    expect(parameters.map((p) => p.name).sort()).toEqual([...adapter.tensors.keys()].sort());
    g.output(outputs.get("logits")!, "logits");
    const feeds = Object.fromEntries(
      parameters.map((p) => [p.name, { type: "float32", ...adapter.tensors.get(p.name)! } as const]),
    );
    expect(distance(await logitsOf(await openBuilder(g), tensors, feeds), expected)).toBeLessThan(1e-5);
    if (whyNoDelta(method, adapter.config) !== null) return;
    const merged = await onnxruntimeNode.open(encodeModel(mergeAdapter(model, adapter)), { threads: 1 });
    expect(distance(await logitsOf(merged, tensors), expected)).toBeLessThan(1e-5);
  });
});
