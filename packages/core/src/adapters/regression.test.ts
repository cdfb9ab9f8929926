import { existsSync, readdirSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { writePeftFolder } from "../formats/peft/write-folder.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import { whyNoDelta } from "../methods/method.ts";
import { listMethods, methodOf } from "../methods/registry.ts";
import { createTrial, targetsOn } from "../methods/testing/behaviour/trial.ts";
import { triedConfigs } from "../methods/testing/configs.ts";
import type { GroundName } from "../methods/testing/ground-names.ts";
import { groundOf } from "../methods/testing/grounds.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { readTensorBytes, tensorFrom, toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel, writeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { type Adapter, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { fromPeft, toPeft } from "./peft-files.ts";

/**
 * Adapters of every method as earlier versions saved them, with inputs and logits over one model: they must load, and give what they
 * gave. `npm run regression:add` adds those of new methods, and of methods at modules that they did not adapt before: "lora" over linear modules,
 * "lora-convolution" and "lora-embedding". What is there is never written again.
 */
const folder = fileURLToPath(new URL("../../../../regression", import.meta.url));
const grounds = ["transformer block", "convolution", "embedding"] as const satisfies readonly GroundName[];
type Saved = (typeof grounds)[number];
const adding = process.env["ADD_REGRESSION"] === "1";
const saved = existsSync(folder) ? readdirSync(folder).filter((name) => !name.includes(".")) : [];

const run = async (model: Model, feeds: Feeds): Promise<Float32Array> => {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { logits } = await session.run(feeds, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
};

/** Logits with an adapter in the graph; tensors that files leave out are made again. */
async function runAdapted(model: Model, adapter: Adapter, inputs: Feeds): Promise<Float32Array> {
  const method = methodOf(adapter.type);
  const adapted = injectAdapter(model, { method, config: adapter.config, wantedOutputs: ["logits"] });
  adapted.g.output(adapted.outputs.get("logits")!, "logits");
  const remade = initialParameters(adapted, 0);
  const feeds: Record<string, RuntimeTensor> = { ...inputs };
  for (const { name, shape } of adapted.parameters) {
    const { dims, data } = adapter.tensors.get(name) ?? { dims: shape, data: remade.get(name)! };
    feeds[name] = { type: "float32", dims, data };
  }
  const session = await openBuilder(adapted.g);
  const { logits } = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!])));
  await session.close();
  return logits?.data as Float32Array;
}

const fed = (tensors: ReadonlyMap<string, TensorData>): Feeds =>
  Object.fromEntries(
    [...tensors].flatMap(([name, tensor]) => {
      if (!name.startsWith("input.")) return [];
      const { type, dims } = tensor;
      const numbers = toNumbers(tensor);
      const data = type === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
      return [[name.slice("input.".length), { type, dims, data } as RuntimeTensor]];
    }),
  );

const close = (found: Float32Array, expected: Float32Array, tolerance: number): void => {
  const scale = Math.max(...expected.map(Math.abs));
  expect(found.length).toBe(expected.length);
  expect(found.reduce((w, v, i) => Math.max(w, Math.abs(v - expected[i]!)), 0) / scale).toBeLessThan(tolerance);
};

const nameOf = (type: string, ground: Saved): string =>
  ground === "transformer block" ? type.toLowerCase() : `${type.toLowerCase()}-${ground}`;
const groundAt = (name: string): Saved => grounds.find((ground) => name.endsWith(`-${ground}`)) ?? "transformer block";
const baseFile = (ground: Saved): string =>
  join(folder, ground === "transformer block" ? "base.onnx" : `base-${ground}.onnx`);

/** What is to be saved: every method over the transformer block, and over the other models where it adapts their convolutions or tables. */
const expected = grounds.flatMap((name) => {
  const ground = groundOf(name);
  const kind = { "transformer block": null, convolution: "conv", embedding: "embedding" }[name];
  return listMethods().flatMap(({ type, kinds }) => {
    if (kind !== null && !kinds.some((own) => own === kind)) return [];
    const tried = triedConfigs.find((t) => t.type === type && (kind === null || targetsOn(ground, t).length > 0));
    return tried && !tried.refusedOn?.[name] ? [{ name: nameOf(type, name), ground: name, tried }] : [];
  });
});

describe.runIf(adding)("adds the adapters of new methods", () => {
  test.each(expected.filter(({ name }) => !saved.includes(name)))(
    "$name",
    async ({ name, ground: groundName, tried }) => {
      const ground = groundOf(groundName);
      await mkdir(folder, { recursive: true });
      if (!existsSync(baseFile(groundName))) await writeModel(ground.model, baseFile(groundName));
      const model = await readModel(baseFile(groundName));
      const trial = createTrial({ ...ground, model }, tried);
      const path = join(folder, name);
      await writePeftFolder(path, toPeft(trial.trained(1)));
      const inputs = Object.entries(trial.feeds).map(
        ([input, { type: element, dims, data }]) =>
          [`input.${input}`, tensorFrom(element as "int64", dims, Array.from(data, Number))] as const,
      );
      const logits = await trial.runAdapted(trial.moved(1));
      await writeSafetensors(`${path}.safetensors`, [
        ...inputs,
        ["output.logits", tensorFrom("float32", [2, 3], logits)],
      ]);
      await trial.close();
    },
  );
});

test.skipIf(adding)("every method has a saved adapter", () => {
  expect(saved.sort()).toEqual(expected.map(({ name }) => name).sort());
});

describe.skipIf(adding)("saved adapters", () => {
  test.each(saved)("%s loads and gives what it gave", async (name) => {
    const model = await readModel(baseFile(groundAt(name)));
    const files = await readPeftFolder(join(folder, name));
    const adapter = fromPeft(files);
    const { tensors } = await readSafetensors(join(folder, `${name}.safetensors`));
    const inputs = fed(tensors);
    const expected = toFloat32Array(tensors.get("output.logits")!);
    close(await runAdapted(model, adapter, inputs), expected, 1e-6);
    if (whyNoDelta(methodOf(adapter.type), adapter.config) === null)
      close(await run(mergeAdapter(model, adapter), inputs), expected, 1e-5);
    const again = toPeft(adapter);
    expect(again.config).toMatchObject(files.config);
    for (const [key, tensor] of files.tensors)
      expect(readTensorBytes(again.tensors.get(key)!), key).toEqual(readTensorBytes(tensor));
  });
});
