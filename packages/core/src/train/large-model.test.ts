import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { initialParameters } from "../adapters/adapter.ts";
import { adapterValues, injectAdapter } from "../adapters/inject.ts";
import { frozenSite } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { lora } from "../methods/lora.ts";
import type { FileRange, Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { encodeModel } from "../onnx/write.ts";
import { randomFloats } from "../quantization/testing/packed-forms.ts";
import { buildAdapterProgram } from "./adapter-program.ts";
import { alignWeights } from "./aligned-weights.ts";
import { createEngineProcess } from "./engine-process.ts";
import { buildEvaluationProgram } from "./program.ts";

/** Rows of the table: 4 KB each, 2 GB and 64 MB together. The file has holes where nothing was written. */
const [ROWS, WIDTH] = [2 ** 19 + 2 ** 14, 1024];
const TABLE_BYTES = ROWS * WIDTH * 4;
const IDS = [3, ROWS - 1];
const rowOf = (id: number): Float32Array => randomFloats(WIDTH, id % 97, 0.5);
const weight = randomFloats(WIDTH * WIDTH, 5, 0.03);

let folder: string;
/** ids -> table -> linear [1024, 1024], whose weight lies behind the table, above 2^31. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "large-model-test-"));
  const data = openSync(join(folder, "model.onnx_data"), "w");
  ftruncateSync(data, TABLE_BYTES + weight.byteLength);
  for (const id of IDS) writeSync(data, rowOf(id), 0, WIDTH * 4, id * WIDTH * 4);
  writeSync(data, weight, 0, weight.byteLength, TABLE_BYTES);
  closeSync(data);
  const g = createBuilder(17);
  const place = (offset: number, length: number): FileRange => ({
    path: join(folder, "model.onnx_data"),
    offset,
    length,
  });
  const table = g.initializer("embed.weight", { type: "float32", dims: [ROWS, WIDTH], data: place(0, TABLE_BYTES) });
  const w = g.initializer("onnx::MatMul_1", {
    type: "float32",
    dims: [WIDTH, WIDTH],
    data: place(TABLE_BYTES, weight.byteLength),
  });
  const x = g.gather(table, g.input("ids", "int64", ["batch"]));
  g.output(g.op("MatMul", [x, w], {}, { name: "/dense/MatMul" })[0]!, "y");
  const reference = ({ data: d }: { data: unknown }) =>
    d instanceof Uint8Array
      ? null
      : { location: "model.onnx_data", offset: (d as FileRange).offset, length: (d as FileRange).length };
  writeFileSync(join(folder, "model.onnx"), encodeModel(toModel(g.finish(), 17), { reference }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a model above 2 GB is read, described by its places in the file, and never loaded as a whole", async () => {
  const before = process.memoryUsage.rss();
  const model = await readModel(join(folder, "model.onnx"));
  const dense = findSites(model).find((site) => site.name === "dense")!;
  expect((model.graph.initializers.get(dense.weight)!.data as FileRange).offset).toBeGreaterThan(2 ** 31);
  const values = frozenSite(model.graph, dense).weight(); // [out, in]
  expect([values[1], values[WIDTH]]).toEqual([weight[WIDTH], weight[1]]);
  await using weights = await alignWeights(model);
  expect(weights.model).toBe(model);
  expect(process.memoryUsage.rss() - before).toBeLessThan(300e6);
});

test("training and evaluation map it and train through it", async () => {
  const model: Model = await readModel(join(folder, "model.onnx"));
  const options = { method: lora, config: { r: 2, targetModules: ["dense"] } };
  const [adapted, plain] = [injectAdapter(model, options), injectAdapter(model, options)];
  const y = adapted.outputs.get("y")!;
  const loss = {
    sum: adapted.g.reduceSum(adapted.g.mul(y, y), [0, 1], false),
    weight: adapted.g.constant("float32", 1),
  };
  const values = initialParameters(adapted, 1);
  const parameters = adapted.parameters.map(({ name, shape }) => [
    name,
    { type: "float32", dims: shape, data: values.get(name)! } as const,
  ]);
  const engine = await createEngineProcess({
    training: buildAdapterProgram(adapted, loss),
    evaluation: buildEvaluationProgram(plain.g, { y: plain.outputs.get("y")! }, adapterValues(plain)),
    parameters: Object.fromEntries(parameters),
    optimizer: { type: "adamw", learningRate: 0.01 },
    seed: 1,
    threads: 1,
  });
  try {
    const ids = { type: "int64", dims: [2], data: BigInt64Array.from(IDS, BigInt) } as const;
    const { y: found } = await engine.evaluate({ ids });
    const expected = IDS.map((id) => rowOf(id).reduce((sum, v, i) => sum + v * weight[i * WIDTH]!, 0));
    const first = found!.data as Float32Array;
    expect(first[0]).toBeCloseTo(expected[0]!, 3);
    expect(first[WIDTH]).toBeCloseTo(expected[1]!, 3);
    const steps = [0, 1, 2].map((step) => ({ step, runs: [{ ids }], learningRateScale: 1 }));
    const losses: number[] = [];
    for (const step of steps) {
      const result = await engine.step(step);
      losses.push(result.loss);
      expect(result.peakRssBytes).toBeLessThan(500e6);
    }
    expect(losses[2]).toBeLessThan(losses[0]!);
  } finally {
    await engine.close();
  }
});
