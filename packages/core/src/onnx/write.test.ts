import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import type { Model } from "./ir.ts";
import { readModel } from "./read.ts";
import { tensorFrom, toNumbers } from "./tensor.ts";
import { errorOf } from "./testing/errors.ts";
import { model, node, value } from "./testing/models.ts";
import { encodeModel, writeModel } from "./write.ts";

const linear = (rows = 3): Model =>
  model({
    nodes: [
      node("Gemm", ["x", "w", "b"], ["y"], { transB: { type: "int", value: 1 }, alpha: { type: "float", value: 2 } }),
    ],
    inputs: [value("x", ["batch", 2])],
    outputs: [value("y", ["batch", rows])],
    initializers: new Map([
      [
        "w",
        tensorFrom(
          "float32",
          [rows, 2],
          Float32Array.from({ length: rows * 2 }, (_, i) => i + 1),
        ),
      ],
      [
        "b",
        tensorFrom(
          "float32",
          [rows],
          Float32Array.from({ length: rows }, (_, i) => 1 - i),
        ),
      ],
    ]),
  });
const feeds = { x: new Tensor("float32", [1, 1, 0, -1], [2, 2]) };
const expected = [7, 14, 21, -3, -8, -13];
const outputOf = async (session: InferenceSession): Promise<number[]> =>
  Array.from((await session.run(feeds))["y"]!.data as Float32Array);
const root = mkdtempSync(join(tmpdir(), "write-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const newFolder = (): string => mkdtempSync(join(root, "case-"));

async function rejection(work: Promise<unknown>): Promise<PeftError> {
  const error = await work.then(
    () => new Error("nothing was thrown"),
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(PeftError);
  return error as PeftError;
}

test("an encoded model runs in ONNX Runtime", async () => {
  expect(await outputOf(await InferenceSession.create(encodeModel(linear())))).toEqual(expected);
});

test("a model opens with weights that lie in another file", async () => {
  const folder = newFolder();
  const { initializers } = linear().graph;
  const weights = initializers.get("w")!.data as Uint8Array;
  writeFileSync(join(folder, "model.safetensors"), Buffer.concat([Buffer.alloc(100), weights]));
  const bytes = encodeModel(linear(), {
    reference: (tensor, name) =>
      name === "w" ? { location: "model.safetensors", offset: 100, length: tensor.data.length } : null,
  });
  expect(bytes.length).toBeLessThan(encodeModel(linear(4096)).length);
  const session = await InferenceSession.create(bytes, {
    extra: { session: { model_external_initializers_file_folder_path: folder } },
  });
  expect(await outputOf(session)).toEqual(expected);
  const wrong = () => encodeModel(linear(), { reference: () => ({ location: "a", offset: 0, length: 1 }) });
  expect(errorOf(wrong).code).toBe("ONNX_INVALID");
});

test("a model written to a file runs, embedded or with external data, and leaves nothing else behind", async () => {
  const folder = newFolder();
  const path = join(folder, "model.onnx");
  await writeModel(linear(), path);
  expect(readdirSync(folder)).toEqual(["model.onnx"]);
  expect(await outputOf(await InferenceSession.create(path))).toEqual(expected);
  await writeModel(linear(), path, { externalData: { fileName: "model.onnx_data", threshold: 16 } });
  expect(readdirSync(folder).sort()).toEqual(["model.onnx", "model.onnx_data"]);
  expect(await outputOf(await InferenceSession.create(path))).toEqual(expected);
  const read = await readModel(path);
  expect(read.graph.initializers.get("w")!.data).toMatchObject({ path: join(folder, "model.onnx_data"), length: 24 });
  expect(read.graph.initializers.get("b")!.data).toBeInstanceOf(Uint8Array);
});

test("weights in files are copied when the model is written elsewhere, page-aligned where large", async () => {
  const folder = newFolder();
  const rows = 300_000;
  await writeModel(linear(rows), join(folder, "a.onnx"));
  const read = await readModel(join(folder, "a.onnx"));
  await writeModel(read, join(folder, "b.onnx"), { externalData: { fileName: "b.bin" } });
  const again = await readModel(join(folder, "b.onnx"));
  for (const { data } of again.graph.initializers.values()) {
    expect(data instanceof Uint8Array ? null : [data.path, data.offset % 4096]).toEqual([join(folder, "b.bin"), 0]);
  }
  for (const name of ["w", "b"]) {
    expect(toNumbers(again.graph.initializers.get(name)!)).toEqual(
      toNumbers(linear(rows).graph.initializers.get(name)!),
    );
  }
});

test("a failed write leaves the old file as it was and no other file", async () => {
  const folder = newFolder();
  const path = join(folder, "model.onnx");
  await writeModel(linear(), path);
  const before = readFileSync(path);
  const broken = linear();
  broken.graph.initializers.set("b", {
    type: "float32",
    dims: [3],
    data: { path: join(folder, "gone.bin"), offset: 0, length: 12 },
  });
  expect((await rejection(writeModel(broken, path))).code).toBe("FILE_RANGE");
  const external = { externalData: { fileName: "data.bin", threshold: 1 } };
  expect((await rejection(writeModel(broken, path, external))).code).toBe("FILE_RANGE");
  expect([readdirSync(folder), readFileSync(path).equals(before)]).toEqual([["model.onnx"], true]);
  mkdirSync(join(folder, "occupied"));
  expect((await rejection(writeModel(linear(), join(folder, "occupied")))).code).toBe("FILE_WRITE");
  expect((await rejection(writeModel(linear(), join(folder, "none", "model.onnx")))).code).toBe("FILE_WRITE");
  expect(readdirSync(folder).sort()).toEqual(["model.onnx", "occupied"]);
  for (const fileName of ["../data.bin", "", "..", "model.onnx"]) {
    expect((await rejection(writeModel(linear(), path, { externalData: { fileName } }))).code, fileName).toBe(
      "ONNX_EXTERNAL_DATA",
    );
  }
});

test("above 2 GB the error says what to do, without reading the weights", () => {
  const large = linear();
  for (let i = 0; i < 3; i++) {
    const data = { path: "/nowhere", offset: 0, length: 2 ** 30 };
    large.graph.initializers.set(`w${i}`, { type: "uint8", dims: [2 ** 30], data });
  }
  expect(errorOf(() => encodeModel(large))).toMatchObject({
    code: "ONNX_LIMIT",
    hint: expect.stringContaining("externalData"),
  });
});

test("a model that cannot be written faithfully is refused", () => {
  const withAttribute = (attribute: Parameters<typeof node>[3]): Model =>
    model({ nodes: [node("Op", ["x"], ["y"], attribute)], inputs: [value("x", [1])], outputs: [value("y", [1])] });
  expect(errorOf(() => encodeModel(withAttribute({ a: { type: "int", value: 0.5 } }))).message).toContain(
    'attribute "a" of Op',
  );
  expect(errorOf(() => encodeModel(withAttribute({ a: { type: "ints", value: [2n ** 63n] } }))).code).toBe(
    "ONNX_INVALID",
  );
  expect(errorOf(() => encodeModel(withAttribute({ a: { type: "float", value: 1e39 } }))).code).toBe("ONNX_INVALID");
  const wrong = linear();
  wrong.graph.initializers.set("b", { type: "float32", dims: [3], data: new Uint8Array(8) });
  expect(errorOf(() => encodeModel(wrong))).toMatchObject({
    code: "ONNX_INVALID",
    message: expect.stringContaining('"b"'),
  });
});
