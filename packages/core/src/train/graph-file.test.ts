import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import { createBuilder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import type { FileRange, Model, TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { readTensorBytes, tensorFrom } from "../onnx/tensor.ts";
import { writeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import { createEngineProcess } from "./engine-process.ts";
import { type GraphFile, packGraph } from "./graph-file.ts";
import { buildTrainingProgram } from "./program.ts";

const WIDTH = 64; // 16 KB a weight
let root: string;
let weights: Record<"a" | "b", TensorData>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "onnx-peft-graph-"));
  const random = createRandom(1);
  const weight = () => tensorFrom("float32", [WIDTH, WIDTH], random.fillNormal(new Float32Array(WIDTH ** 2), 0, 0.1));
  weights = { a: weight(), b: weight() };
});
afterAll(() => rm(root, { recursive: true, force: true }));

const modelOf = (tensors: Record<"a" | "b", TensorData>): Model => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["rows", WIDTH]);
  g.output(g.matMul(g.relu(g.matMul(x, g.initializer("a", tensors.a))), g.initializer("b", tensors.b)), "y");
  return toModel(g.finish(), g.opset);
};

const x: RuntimeTensor = {
  type: "float32",
  dims: [2, WIDTH],
  data: Float32Array.from({ length: 2 * WIDTH }, (_, i) => Math.sin(i)),
};

async function outputOf({ bytes, ...place }: GraphFile): Promise<number[]> {
  const session = await onnxruntimeNode.open(bytes, { threads: 1, ...place });
  const { y } = await session.run({ x });
  await session.close();
  return Array.from(y!.data as Float32Array);
}

/** Both weights out of a safetensors file. */
async function fromSafetensors(path: string): Promise<Record<"a" | "b", TensorData>> {
  const { tensors } = await readSafetensors(path);
  return { a: tensors.get("a")!, b: tensors.get("b")! };
}

const total = 2 * WIDTH * WIDTH * 4;

/** Equal to the model with everything embedded, and smaller by the weights. */
async function expectReferenced(model: Model, folder: string): Promise<void> {
  const packed = packGraph(model);
  const embedded = packGraph(modelOf(weights));
  expect(embedded.externalDataFolder).toBeUndefined();
  expect(embedded.bytes.length).toBeGreaterThan(total);
  expect(packed.bytes.length).toBeLessThan(4096);
  expect(packed.externalDataFolder).toBe(folder);
  expect(await outputOf(packed)).toEqual(await outputOf(embedded));
}

describe("packGraph refers to weights where they lie", () => {
  test("in a safetensors file", async () => {
    const folder = await mkdtemp(join(root, "st-"));
    await writeSafetensors(join(folder, "model.safetensors"), Object.entries(weights));
    await expectReferenced(modelOf(await fromSafetensors(join(folder, "model.safetensors"))), folder);
  });

  test("in external data beside an .onnx file", async () => {
    const folder = await mkdtemp(join(root, "external-"));
    const path = join(folder, "model.onnx");
    await writeModel(modelOf(weights), path, { externalData: { fileName: "weights.bin" } });
    await expectReferenced(await readModel(path, { rangeThreshold: 1024 }), folder);
  });

  test("inside an .onnx file: what happens to be aligned there", async () => {
    const referred: boolean[] = [];
    for (const name of ["g", "gr", "gra", "grap"]) {
      const folder = await mkdtemp(join(root, "inside-"));
      const path = join(folder, "model.onnx");
      const whole = modelOf(weights);
      whole.graph.name = name;
      await writeModel(whole, path, { externalData: "none" });
      const model = await readModel(path, { rangeThreshold: 1024 });
      const places = [...model.graph.initializers.values()].map(({ data }) => (data as FileRange).offset);
      const aligned = places.filter((offset) => offset % 4 === 0).length;
      const packed = packGraph(model);
      expect(Math.round((total - packed.bytes.length) / (total / 2) + 0.1)).toBe(aligned);
      expect(packed.externalDataFolder).toBe(aligned > 0 ? folder : undefined);
      expect(await outputOf(packed)).toEqual(await outputOf(packGraph(modelOf(weights))));
      referred.push(aligned > 0);
    }
    expect(new Set(referred)).toContain(true);
  });

  test("behind links, as a model cache lays them out: another folder, another name", async () => {
    const cache = await mkdtemp(join(root, "hub-"));
    const [blobs, snapshot] = [join(cache, "blobs"), join(cache, "snapshots", "0123abcd")];
    await mkdir(blobs);
    await mkdir(snapshot, { recursive: true });
    const blob = join(blobs, "5f2a9e0c");
    await writeSafetensors(join(snapshot, "model.safetensors"), Object.entries(weights));
    await rename(join(snapshot, "model.safetensors"), blob);
    await symlink("../../blobs/5f2a9e0c", join(snapshot, "model.safetensors"));
    await expectReferenced(modelOf(await fromSafetensors(join(snapshot, "model.safetensors"))), blobs);
    // The folder itself behind a link.
    await symlink(snapshot, join(cache, "main"));
    await expectReferenced(modelOf(await fromSafetensors(join(cache, "main", "model.safetensors"))), blobs);
  });

  test("weights of two folders: the larger share is referred to, the rest embedded", async () => {
    const [one, two] = [await mkdtemp(join(root, "one-")), await mkdtemp(join(root, "two-"))];
    const large = tensorFrom("float32", [WIDTH, WIDTH, 2], new Float32Array(WIDTH * WIDTH * 2));
    await writeSafetensors(join(one, "m.safetensors"), [
      ["a", weights.a],
      ["c", large],
    ]);
    await writeSafetensors(join(two, "m.safetensors"), [["b", weights.b]]);
    const a = (await readSafetensors(join(one, "m.safetensors"))).tensors;
    const b = (await readSafetensors(join(two, "m.safetensors"))).tensors.get("b")!;
    const model = modelOf({ a: a.get("a")!, b });
    model.graph.initializers.set("c", a.get("c")!);
    const packed = packGraph(model);
    expect(packed.externalDataFolder).toBe(one);
    expect(packed.bytes.length).toBeGreaterThan(total / 2);
    expect(packed.bytes.length).toBeLessThan(total / 2 + 4096);
    expect(await outputOf(packed)).toEqual(await outputOf(packGraph(modelOf(weights))));
  });

  test("an offset that is not aligned, and what is small, is embedded", async () => {
    const folder = await mkdtemp(join(root, "odd-"));
    const path = join(folder, "weights.bin");
    const [a, b] = [readTensorBytes(weights.a), readTensorBytes(weights.b)];
    await writeFile(path, Buffer.concat([Buffer.alloc(2), a, Buffer.alloc(2), b]));
    const at = (offset: number): TensorData => ({ ...weights.a, data: { path, offset, length: a.length } });
    const packed = packGraph(modelOf({ a: at(2), b: at(4 + a.length) }));
    expect(packed.externalDataFolder).toBe(folder);
    expect(packed.bytes.length).toBeGreaterThan(a.length);
    expect(packed.bytes.length).toBeLessThan(a.length + 4096);
    expect(await outputOf(packed)).toEqual(await outputOf(packGraph(modelOf(weights))));
    const small: TensorData = { type: "float32", dims: [4], data: { path, offset: 4, length: 16 } };
    const g = createBuilder();
    g.output(g.add(g.input("x", "float32", [4]), g.initializer("small", small)), "y");
    expect(packGraph(toModel(g.finish(), g.opset)).externalDataFolder).toBeUndefined();
  });

  test("a weight in a file that is gone is an error", async () => {
    const gone: TensorData = { ...weights.a, data: { path: join(root, "gone.bin"), offset: 0, length: total / 2 } };
    expect(() => packGraph(modelOf({ a: gone, b: weights.b }))).toThrow("ENOENT");
  });
});

test("training and locating a NaN work over weights behind a link", async () => {
  const cache = await mkdtemp(join(root, "train-"));
  const blob = join(cache, "blob");
  await writeSafetensors(blob, Object.entries(weights));
  await symlink(blob, join(cache, "model.safetensors"));
  const source = modelOf(await fromSafetensors(join(cache, "model.safetensors")));
  const g = importGraph(source.graph, 21);
  const scale = g.input("scale", "float32", [WIDTH]);
  const log = g.log(g.mul(g.value("y"), scale));
  const training = buildTrainingProgram(g, { sum: g.reduceSum(log, [0, 1], false), weight: g.constant("float32", 1) }, [
    scale,
  ]);
  expect(training.graph.externalDataFolder).toBe(dirname(blob));
  const engine = await createEngine(onnxruntimeNode, {
    training,
    parameters: { scale: { type: "float32", dims: [WIDTH], data: new Float32Array(WIDTH).fill(1) } },
    optimizer: { type: "sgd", learningRate: 1 },
    seed: 1,
    threads: 1,
  });
  const step = engine.step({ step: 0, runs: [{ x }], learningRateScale: 1 });
  await expect(step).rejects.toMatchObject({ code: "NOT_FINITE", details: { op: "Log" } });
  await engine.close();
});

test("a process of its own opens a graph that is partly embedded", async () => {
  const folder = await mkdtemp(join(root, "partly-"));
  await writeSafetensors(join(folder, "m.safetensors"), [["a", weights.a]]);
  const { tensors } = await readSafetensors(join(folder, "m.safetensors"));
  const graph = packGraph(modelOf({ a: tensors.get("a")!, b: weights.b }));
  expect(graph.externalDataFolder).toBe(folder);
  const evaluation = { graph, parameters: [], inputs: [], outputs: ["y"], packWeights: false };
  const engine = await createEngineProcess({ evaluation, parameters: {}, seed: 1, threads: 1 });
  const { y } = await engine.evaluate({ x });
  await engine.close();
  expect(Array.from(y!.data as Float32Array)).toEqual(await outputOf(packGraph(modelOf(weights))));
});
