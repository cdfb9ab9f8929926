import { Builder } from "flatbuffers";
import { describe, expect, test } from "vitest";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { readTensorBytes, stringTensor, tensorFrom, toFloat32Array, toNumbers } from "../../onnx/tensor.ts";
import { seededRandom } from "../../testing/fuzz/seeded-random.ts";
import { mutate } from "../testing/mutate.ts";
import { decodeOnnxAdapter } from "./decode.ts";
import { encodeOnnxAdapter } from "./encode.ts";

const parameters = new Map<string, TensorData>([
  ["layer.0.query.lora_A.weight", tensorFrom("float32", [2, 3], [1, 2, 3, 4, 5, 6])],
  ["ids", tensorFrom("int64", [3], [1, -1, 2])],
  ["odd", tensorFrom("uint8", [3], [1, 0, 1])],
  ["none", tensorFrom("float16", [0, 4], [])],
  ["one é", tensorFrom("float64", [1], [0.5])],
]);

test("what is written is read back", () => {
  const adapter = decodeOnnxAdapter(encodeOnnxAdapter(parameters, { adapterVersion: 3, modelVersion: -4 }));
  expect(adapter).toMatchObject({ formatVersion: 1, adapterVersion: 3, modelVersion: -4 });
  expect([...adapter.parameters.keys()]).toEqual([...parameters.keys()]);
  for (const [name, tensor] of parameters) {
    const got = adapter.parameters.get(name)!;
    expect([got.type, got.dims]).toEqual([tensor.type, tensor.dims]);
    expect(readTensorBytes(got)).toEqual(readTensorBytes(tensor));
  }
  expect(decodeOnnxAdapter(encodeOnnxAdapter(new Map())).parameters.size).toBe(0);
});

test("a file is small and its data is aligned to 8, whatever the sizes around it", () => {
  for (let n = 0; n < 20; n++) {
    const odd = new Map<string, TensorData>();
    for (let i = 1; i < 6; i++) odd.set("x".repeat(i + n), tensorFrom("uint8", [n + i], new Uint8Array(n + i).fill(i)));
    const bytes = encodeOnnxAdapter(odd);
    expect(bytes.length).toBeLessThan(700);
    expect(Buffer.from(bytes.subarray(4, 8)).toString()).toBe("TORT");
    for (const { data } of decodeOnnxAdapter(bytes).parameters.values())
      expect((data as Uint8Array).byteOffset % 8).toBe(0);
  }
});

/** Written by `onnxruntime.AdapterFormat.export_adapter` of Python's onnxruntime 1.32: x float32 [2, 3], yy int64 [3]. */
const byOnnxRuntime = Buffer.from(
  "CAAAAFRPUlRg////AQAAAAMAAAAEAAAABAAAAAMAAACUAAAAQAAAAAQAAACE////KAAAABAAAAABAAAABAAAAAAAAAACAAAAAAAAAAAAAAAEAAAAAAAAAAUAAABlbXB0eQAAALz///84AAAAKAAAAAcAAAAEAAAAGAAAAAAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAEAAAADAAAAAAAAAAIAAAB5eQAADAAUAAQACAAMABAADAAAAEAAAAAoAAAAAQAAAAQAAAAYAAAAAAAAAAAAgD8AAABAAABAQAAAgEAAAKBAAgAAAAIAAAAAAAAAAwAAAAAAAAABAAAAeAAAAA==",
  "base64",
);

test("reads a file of ONNX Runtime, whose data is not aligned to 8", () => {
  const { adapterVersion, modelVersion, parameters: read } = decodeOnnxAdapter(new Uint8Array(byOnnxRuntime));
  expect([adapterVersion, modelVersion]).toEqual([3, 4]);
  expect([...read.keys()].sort()).toEqual(["empty", "x", "yy"]);
  expect(toFloat32Array(read.get("x")!)).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5));
  expect(read.get("x")?.dims).toEqual([2, 3]);
  expect(toNumbers(read.get("yy")!)).toEqual([0, 1, 2]);
  expect(read.get("empty")?.dims).toEqual([0, 4]);
});

test.each<[string, string, TensorData]>([
  ["no name", "", tensorFrom("float32", [1], [1])],
  ["half a character", "\ud83d", tensorFrom("float32", [1], [1])],
  ["a long name", "x".repeat(5000), tensorFrom("float32", [1], [1])],
  ["booleans", "a", tensorFrom("bool", [1], [1])],
  ["a scalar", "a", tensorFrom("float32", [], [1])],
  ["texts", "a", stringTensor([1], ["x"])],
  ["4-bit numbers", "a", tensorFrom("int4", [2], [1, 2])],
  ["data that does not fit the shape", "a", { ...tensorFrom("float32", [1], [1]), dims: [2] }],
  ["more than 2 GB", "a", { type: "uint8", dims: [2 ** 31], data: { path: "none", offset: 0, length: 2 ** 31 } }],
])("refuses to write %s", (_, name, tensor) => {
  expect(() => encodeOnnxAdapter(new Map([[name, tensor]]))).toThrow(
    expect.objectContaining({ code: "ONNX_ADAPTER_UNWRITABLE" }),
  );
});

test("refuses versions that are no 32-bit numbers", () => {
  for (const adapterVersion of [1.5, 2 ** 31, Number.NaN]) {
    expect(() => encodeOnnxAdapter(new Map(), { adapterVersion })).toThrow(PeftError);
  }
});

interface Hostile {
  identifier?: string;
  version?: number;
  name?: string | null;
  dims?: bigint[] | null;
  type?: number;
  raw?: number | null;
  times?: number;
}

/** A well-formed flatbuffer with the given, not so well-meant content. */
function hostile(options: Hostile = {}): Uint8Array {
  const { identifier = "TORT", version = 1, name = "a", dims = [1n], type = 1, raw = 4, times = 1 } = options;
  const builder = new Builder(1024);
  const rawAt = raw === null ? 0 : builder.createByteVector(new Uint8Array(raw));
  let dimsAt = 0;
  if (dims) {
    builder.startVector(8, dims.length, 8);
    for (const dim of [...dims].reverse()) builder.addInt64(dim);
    dimsAt = builder.endVector();
  }
  const nameAt = name === null ? 0 : builder.createString(name);
  builder.startObject(4);
  builder.addFieldOffset(0, nameAt, 0);
  builder.addFieldOffset(1, dimsAt, 0);
  builder.addFieldInt32(2, type, 0);
  builder.addFieldOffset(3, rawAt, 0);
  const table = builder.endObject();
  builder.startVector(4, times, 4);
  for (let i = 0; i < times; i++) builder.addOffset(table);
  const list = builder.endVector();
  builder.startObject(4);
  builder.addFieldInt32(0, version, 0);
  builder.addFieldOffset(3, list, 0);
  builder.finish(builder.endObject(), identifier);
  return builder.asUint8Array().slice();
}

describe("hostile files", () => {
  test("the builder of these files makes a good one by default", () => {
    expect(decodeOnnxAdapter(hostile()).parameters.get("a")?.dims).toEqual([1]);
  });

  const words = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);
  const tort = Buffer.from("TORT").readInt32LE();
  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", new Uint8Array(0), /the start/],
    ["another identifier", hostile({ identifier: "ORTM" }), /"ORTM"/],
    ["another version", hostile({ version: 2 }), /format version is 2/],
    ["no version", hostile({ version: 0 }), /format version is 0/],
    ["a root at 0", words(0, tort), /points to itself/],
    ["a root behind the end", words(400, tort), /the root lies at/],
    ["a root far behind the end", words(-1, tort), /the root lies at/],
    ["a field list before the file", words(8, tort, 100), /field list of the root lies/],
    ["a field list behind the file", words(8, tort, -100), /field list of the root lies/],
    ["an empty field list", words(8, tort, -4, 0), /no valid size/],
    ["a field list of odd size", words(8, tort, -4, 0x00040005), /no valid size/],
    ["a field list longer than the file", words(8, tort, -4, 0x0004fffe), /field list of the root lies/],
    ["a table longer than the file", words(8, tort, -4, 0x7ffe0004 | 0), /the root lies at/],
    ["a field outside its table", words(8, tort, -4, 0x00080006, 0x00000010), /outside its table/],
    ["no name", hostile({ name: null }), /name of 0 bytes/],
    ["an empty name", hostile({ name: "" }), /name of 0 bytes/],
    ["a long name", hostile({ name: "x".repeat(5000) }), /name of 5000 bytes/],
    ["no shape", hostile({ dims: null }), /no shape/],
    ["a scalar", hostile({ dims: [] }), /no shape/],
    ["65 axes", hostile({ dims: Array<bigint>(65).fill(1n) }), /65 axes/],
    ["a negative axis", hostile({ dims: [-1n] }), /axis of size -1/],
    ["an axis past 2^53", hostile({ dims: [2n ** 62n] }), /axis of size/],
    ["a shape that overflows", hostile({ dims: [2n ** 32n, 2n ** 32n], raw: 0 }), /larger than the file/],
    ["a shape that overflows beside a zero", hostile({ dims: [0n, 2n ** 32n], raw: 0 }), /larger than the file/],
    ["no type", hostile({ type: 0 }), /type number 0/],
    ["booleans", hostile({ type: 9, raw: 1 }), /type number 9/],
    ["texts", hostile({ type: 8 }), /type number 8/],
    ["an unknown type", hostile({ type: 99 }), /type number 99/],
    ["no data", hostile({ raw: null }), /no data/],
    ["too little data", hostile({ dims: [2n] }), /takes 8 bytes .* has 4/],
    ["too much data", hostile({ dims: [0n] }), /takes 0 bytes .* has 4/],
    ["one name twice", hostile({ times: 2 }), /given twice/],
    ["200,000 parameters", hostile({ times: 200_000 }), /200000 parameters/],
  ])("%s", (_, bytes, message) => {
    const error = { code: "ONNX_ADAPTER_INVALID", message: expect.stringMatching(message) };
    expect(() => decodeOnnxAdapter(bytes)).toThrow(expect.objectContaining(error));
  });

  test("every cut of a file is refused", () => {
    const bytes = encodeOnnxAdapter(parameters);
    // Data comes last, with less than 8 bytes of padding behind it.
    for (let length = 0; length <= bytes.length - 8; length++) {
      const cut = (): unknown => decodeOnnxAdapter(bytes.subarray(0, length));
      expect(cut).toThrow(expect.objectContaining({ code: "ONNX_ADAPTER_INVALID" }));
    }
  });

  test("8,000 damaged files: an error of ours, or tensors that lie inside the file", () => {
    const random = seededRandom(11);
    const seed = encodeOnnxAdapter(parameters);
    let accepted = 0;
    for (let i = 0; i < 8000; i++) {
      const bytes = mutate(seed, random);
      try {
        for (const tensor of decodeOnnxAdapter(bytes).parameters.values()) {
          const data = readTensorBytes(tensor);
          expect(data.buffer).toBe(bytes.buffer);
          expect(data.byteOffset + data.length).toBeLessThanOrEqual(bytes.byteOffset + bytes.length);
        }
        accepted++;
      } catch (error) {
        if (!PeftError.isInstance(error)) throw error;
        expect(error.code).toBe("ONNX_ADAPTER_INVALID");
      }
    }
    expect(accepted).toBeGreaterThan(100);
  });
});
