import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { FileRange, Model } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { readTensorBytes, tensorFrom } from "../onnx/tensor.ts";
import { encodeModel, writeModel } from "../onnx/write.ts";
import { randomFloats } from "../quantization/testing/packed-forms.ts";
import { alignWeights } from "./aligned-weights.ts";
import { packGraph } from "./graph-file.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aligned-weights-test-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Four layers of 1 MB; names of odd lengths move the weights of the file to odd addresses. */
function layers(): Model {
  const g = createBuilder(17);
  let x = g.input("x", "float32", ["batch", 512]);
  for (let i = 0; i < 4; i++) {
    x = g.matMul(
      x,
      g.initializer(`w${"x".repeat(2 * i)}`, tensorFrom("float32", [512, 512], randomFloats(512 * 512, i + 1))),
    );
  }
  g.output(x, "y");
  return toModel(g.finish(), 17);
}

test("weights inside an .onnx file are written once, aligned, and shared by all graphs", async () => {
  const path = join(folder, "embedded.onnx");
  writeFileSync(path, encodeModel(layers()));
  const model = await readModel(path);
  expect(packGraph(model).bytes.length).toBeGreaterThan(1_000_000); // copies: none of them is at a multiple of 4
  let place: string;
  {
    await using weights = await alignWeights(model, join(folder, "runs", "one"));
    expect(weights.writtenBytes).toBeGreaterThanOrEqual(4 * 4 * 512 * 512);
    const ranges = [...weights.model.graph.initializers.values()].map((t) => t.data as FileRange);
    place = ranges[0]!.path;
    expect(ranges.map((range) => [range.path, range.offset % 4096])).toEqual(ranges.map(() => [place, 0]));
    for (const [name, tensor] of weights.model.graph.initializers) {
      expect(Buffer.compare(readTensorBytes(tensor), readTensorBytes(model.graph.initializers.get(name)!))).toBe(0);
    }
    const packed = packGraph(weights.model);
    expect(packed.bytes.length).toBeLessThan(10_000);
    expect(place.startsWith(packed.externalDataFolder!)).toBe(true);
    expect(existsSync(place)).toBe(true);
  }
  expect(existsSync(place)).toBe(false);
  expect(readdirSync(join(folder, "runs"))).toEqual([]);
});

test("what can be mapped already is left where it is", async () => {
  const path = join(folder, "external.onnx");
  await writeModel(layers(), path, { externalData: { fileName: "external.onnx_data" } });
  const model = await readModel(path);
  await using weights = await alignWeights(model);
  expect(weights.model).toBe(model);
  expect(weights.writtenBytes).toBe(0);
});
