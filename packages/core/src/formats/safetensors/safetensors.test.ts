import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { readTensorBytes, stringTensor, tensorFrom, toFloat32Array, toNumbers } from "../../onnx/tensor.ts";
import { seededRandom } from "../../testing/fuzz/seeded-random.ts";
import { mutate } from "../testing/mutate.ts";
import { readSafetensorsFolder } from "./folder.ts";
import { decodeSafetensors, readSafetensors } from "./read.ts";
import { encodeSafetensors, writeSafetensors } from "./write.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "safetensors-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file with the given header text and data bytes. */
function file(header: string, data: number | Uint8Array = 0, length?: bigint): Uint8Array {
  const text = Buffer.from(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(length ?? BigInt(text.length));
  return new Uint8Array(Buffer.concat([start, text, typeof data === "number" ? Buffer.alloc(data) : data]));
}
const info = (shape: string, offsets: string, dtype = "F32"): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const headerOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.subarray(8, 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true)))).toString();

const example = (): [string, TensorData][] => [
  ["b", tensorFrom("float32", [2, 3], [1, 2, 3, 4, 5, -6])],
  ["flag", tensorFrom("bool", [3], [1, 0, 1])],
  ["ids", tensorFrom("int64", [2], [1, -1])],
  ["a", tensorFrom("float32", [], [7])],
  ["empty", tensorFrom("float16", [0, 4], [])],
];

describe("round trip", () => {
  test("in memory", () => {
    const { tensors, metadata } = decodeSafetensors(encodeSafetensors(example(), { format: "pt", é: '"\n' }));
    expect(metadata).toEqual({ format: "pt", é: '"\n' });
    expect([...tensors.keys()]).toEqual(["ids", "a", "b", "empty", "flag"]);
    for (const [name, tensor] of example()) {
      const got = tensors.get(name);
      expect(got?.type).toBe(tensor.type);
      expect(got?.dims).toEqual(tensor.dims);
      expect(readTensorBytes(got!)).toEqual(readTensorBytes(tensor));
    }
    expect(toFloat32Array(tensors.get("b")!)).toEqual(Float32Array.of(1, 2, 3, 4, 5, -6));
  });

  test("through a file, and from that file's places into another one", async () => {
    const first = join(folder, "first.safetensors");
    await writeSafetensors(first, example(), { format: "pt" });
    const { tensors, metadata } = await readSafetensors(first);
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.get("b")?.data).toMatchObject({ path: first, length: 24 });
    expect(toNumbers(tensors.get("ids")!)).toEqual([1, -1]);
    const second = join(folder, "second.safetensors");
    await writeSafetensors(second, tensors, metadata);
    expect(readFileSync(second)).toEqual(readFileSync(first));
    expect(encodeSafetensors(tensors, metadata)).toEqual(new Uint8Array(readFileSync(first)));
  });

  test("no tensors", () => {
    expect(Buffer.from(encodeSafetensors([])).toString("latin1")).toBe("\b\0\0\0\0\0\0\0{}      ");
    expect(decodeSafetensors(encodeSafetensors([])).tensors.size).toBe(0);
  });

  test("data does not need to be aligned, nor in the order of the header", () => {
    const data = Buffer.alloc(5);
    data.writeFloatLE(2.5, 1);
    const header = `{"f":${info("[1]", "[1,5]")},"u":${info("[1]", "[0,1]", "U8")}}`;
    for (const pad of ["", " ", "  ", "   "]) {
      const { tensors } = decodeSafetensors(file(header + pad, data));
      expect([...tensors.keys()]).toEqual(["u", "f"]);
      expect(toFloat32Array(tensors.get("f")!)).toEqual(Float32Array.of(2.5));
    }
  });
});

test("lays out all types in the order that safetensors 0.8.0 gave for the same tensors", () => {
  const types = {
    bool: 1,
    uint8: 1,
    int8: 1,
    float8e5m2: 1,
    float8e4m3fn: 1,
    float8e4m3fnuz: 1,
    float8e5m2fnuz: 1,
    int16: 2,
    uint16: 2,
    float16: 2,
    bfloat16: 2,
    int32: 4,
    uint32: 4,
    float32: 4,
    float64: 8,
    int64: 8,
    uint64: 8,
    complex64: 8,
  } as const;
  const tensors = Object.entries(types).map(([type, width]): [string, TensorData] => [
    `t_${type}`,
    { type: type as keyof typeof types, dims: [2], data: new Uint8Array(2 * width).fill(width) },
  ]);
  // Names by their UTF-8 bytes: U+FFEE before U+1F600, which JavaScript's own order would swap.
  for (const name of ["a", "\u{1F600}", "\uffee", 'q"\n\x7f/é\x1f']) {
    tensors.push([name, { type: "float32", dims: [2], data: new Uint8Array(8) }]);
  }
  const bytes = encodeSafetensors(tensors);
  expect([...headerOf(bytes).matchAll(/"dtype":"(\w+)"/g)].map((found) => found[1]).join(" ")).toBe(
    "U64 I64 F64 C64 F32 F32 F32 F32 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E4M3 F8_E5M2 I8 U8 BOOL",
  );
  expect(headerOf(bytes)).toContain(
    '"q\\"\\n\x7f/é\\u001f":{"dtype":"F32","shape":[2],"data_offsets":[72,80]},"t_float32"',
  );
  expect(headerOf(bytes)).toContain('"\uffee":{"dtype":"F32","shape":[2],"data_offsets":[88,96]},"\u{1F600}"');
  const read = decodeSafetensors(bytes).tensors;
  for (const [name, tensor] of tensors) expect(read.get(name)).toEqual(tensor);
});

test("refuses to write what could not be read back", () => {
  const one = tensorFrom("float32", [1], [1]);
  const cases: [string, TensorData][][] = [
    [
      ["a", one],
      ["a", one],
    ],
    [["", one]],
    [["__metadata__", one]],
    [["\ud83d", one]],
    [["a", { ...one, dims: [2] }]],
    [["a", stringTensor([1], ["x"])]],
    [["a", tensorFrom("int4", [2], [1, 2])]],
  ];
  for (const tensors of cases) {
    expect(() => encodeSafetensors(tensors)).toThrow(expect.objectContaining({ code: "SAFETENSORS_UNWRITABLE" }));
  }
});

describe("hostile files", () => {
  const huge = "9007199254740993";
  const cases: [string, Uint8Array, RegExp][] = [
    ["nothing", new Uint8Array(0), /at least 8 bytes/],
    ["seven bytes", new Uint8Array(7), /at least 8 bytes/],
    ["no header", new Uint8Array(8), /a header of/],
    ["a header longer than the file", file("{}", 0, 3n), /its length says 3/],
    ["a header of 2^63 bytes", file("{}", 0, 2n ** 63n), /its length says 9223372036854775808/],
    ["no object", file("[] ", 0), /begins with/],
    ["spaces before the object", file(" {}"), /begins with/],
    ["text after the object", file("{}x"), /expected the end/],
    ["bytes that are no UTF-8", file("{}").map((byte, i) => (i === 9 ? 0xff : byte)), /UTF-8/],
    ["an open header", file('{"a":'), /a whole number/],
    ["a name twice", file(`{"a":${info("[1]", "[0,4]")},"a":${info("[1]", "[4,8]")}}`, 8), /every key once/],
    [
      "a name twice, once escaped",
      file(`{"a":${info("[0]", "[0,0]")},"\\u0061":${info("[0]", "[0,0]")}}`),
      /every key once/,
    ],
    [
      "a field twice",
      file('{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,8]}}', 8),
      /every key once/,
    ],
    ["an unknown field", file('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":1}}'), /unknown field "x"/],
    ["an unknown type", file(`{"a":${info("[1]", "[0,4]", "F31")}}`, 4), /expected a dtype of/],
    ["a type from the prototype", file(`{"a":${info("[1]", "[0,4]", "constructor")}}`, 4), /expected a dtype of/],
    ["no offsets", file('{"a":{"dtype":"F32","shape":[1]}}', 4), /expected data_offsets/],
    ["three offsets", file(`{"a":${info("[1]", "[0,4,4]")}}`, 4), /expected data_offsets/],
    ["offsets backwards", file(`{"a":${info("[1]", "[4,0]")}}`, 4), /expected data_offsets/],
    ["a negative offset", file(`{"a":${info("[1]", "[-4,0]")}}`, 4), /a whole number/],
    ["a fractional shape", file(`{"a":${info("[1.0]", "[0,4]")}}`, 4), /whole number|"," or/],
    ["an offset past 2^53", file(`{"a":${info("[1]", `[${huge},${huge}]`)}}`, 4), /expected data_offsets/],
    ["a shape past 2^53", file(`{"a":${info(`[${huge}]`, "[0,4]")}}`, 4), /expected a shape/],
    ["a shape that overflows", file(`{"a":${info("[4294967296,4294967296]", "[0,0]")}}`), /is too large/],
    [
      "a shape that overflows beside a zero",
      file(`{"a":${info("[0,4294967296,4294967296]", "[0,0]")}}`),
      /is too large/,
    ],
    ["a shape whose bytes overflow", file(`{"a":${info("[9007199254740991]", "[0,0]")}}`), /is too large/],
    ["65 axes", file(`{"a":${info(`[${Array(65).fill(1)}]`, "[0,4]")}}`, 4), /at most 64/],
    ["fewer bytes than the shape takes", file(`{"a":${info("[2]", "[0,4]")}}`, 4), /takes 8 bytes/],
    ["more bytes than the shape takes", file(`{"a":${info("[2]", "[0,12]")}}`, 12), /takes 8 bytes/],
    ["a gap at the start", file(`{"a":${info("[1]", "[4,8]")}}`, 8), /leaves a gap/],
    ["a gap inside", file(`{"a":${info("[1]", "[0,4]")},"b":${info("[1]", "[8,12]")}}`, 12), /leaves a gap/],
    ["an overlap", file(`{"a":${info("[1]", "[0,4]")},"b":${info("[1]", "[2,6]")}}`, 6), /overlaps/],
    ["two tensors at one place", file(`{"a":${info("[1]", "[0,4]")},"b":${info("[1]", "[0,4]")}}`, 4), /overlaps/],
    ["bytes after the last tensor", file(`{"a":${info("[1]", "[0,4]")}}`, 5), /the file has 5 bytes/],
    ["offsets past the end", file(`{"a":${info("[1]", "[0,4]")}}`, 3), /the file has 3 bytes/],
    ["metadata that is no text", file('{"__metadata__":{"a":1}}'), /expected a text/],
    ["metadata that is no object", file('{"__metadata__":"a"}'), /expected an object/],
    ["a tensor that is no object", file('{"a":1}'), /expected an object/],
    ["nested metadata", file('{"__metadata__":{"a":{"b":{"c":{}}}}}'), /levels/],
    ["a deep header", file(`{"a":${"[".repeat(100_000)}`), /levels/],
    ["an empty name", file(`{"":${info("[0]", "[0,0]")}}`), /has 0 characters/],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const error = expect.objectContaining({ code: "SAFETENSORS_INVALID", message: expect.stringMatching(message) });
    expect(() => decodeSafetensors(bytes)).toThrow(error);
    const path = join(folder, "hostile.safetensors");
    writeFileSync(path, bytes);
    await expect(readSafetensors(path)).rejects.toEqual(error);
  });

  test("all problems are listed, up to a limit", () => {
    const entry = (i: number): string => `"t${i}":${info("[2]", "[0,4]")}`;
    const bytes = file(`{${Array.from({ length: 30 }, (_, i) => entry(i)).join(",")}}`, 4);
    expect(() => decodeSafetensors(bytes)).toThrow(/"t0".*"t19".*and 10 more/);
  });

  test("a header above 100 MB is refused before it is read", () => {
    expect(() => decodeSafetensors(file("", 100_000_010, 100_000_001n))).toThrow(/2 to 100000000 bytes/);
  });

  test.each([
    ["a zip archive", Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0)],
    ["a bare pickle", Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9)],
  ])("%s under the name of a safetensors file", (_, bytes) => {
    expect(() => decodeSafetensors(bytes)).toThrow(expect.objectContaining({ code: "PICKLE_REFUSED" }));
  });

  test("a header whose length looks like a pickle is read", () => {
    const padded = `{}${" ".repeat(0x0280 - 2)}`;
    expect(decodeSafetensors(file(padded)).tensors.size).toBe(0);
  });

  test("names like __proto__ are names like any other", () => {
    const bytes = file(`{"__metadata__":{"__proto__":"x"},"__proto__":${info("[1]", "[0,4]")}}`, 4);
    const { tensors, metadata } = decodeSafetensors(bytes);
    expect([...tensors.keys()]).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
  });

  test("files that are missing, folders", async () => {
    await expect(readSafetensors(join(folder, "none"))).rejects.toMatchObject({ code: "FILE_MISSING" });
    await expect(readSafetensors(folder)).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
  });

  test("8,000 damaged files: an error of ours, or tensors that lie inside the file", () => {
    const random = seededRandom(7);
    const seed = encodeSafetensors(example(), { format: "pt" });
    const header = Buffer.from(headerOf(seed));
    let accepted = 0;
    for (let i = 0; i < 8000; i++) {
      // Every second file has a damaged header under a right length, so that the damage gets past the first check.
      const damagedHeader = (): Uint8Array =>
        file(Buffer.from(mutate(header, random)).toString("latin1"), seed.subarray(8 + header.length));
      const bytes = i % 2 === 0 ? mutate(seed, random) : damagedHeader();
      try {
        let covered = 0;
        for (const tensor of decodeSafetensors(bytes).tensors.values()) covered += readTensorBytes(tensor).length;
        expect(covered).toBe(bytes.length - 8 - Number(new DataView(bytes.buffer).getBigUint64(0, true)));
        accepted++;
      } catch (error) {
        if (!PeftError.isInstance(error)) throw error;
        expect(["SAFETENSORS_INVALID", "PICKLE_REFUSED"]).toContain(error.code);
      }
    }
    expect(accepted).toBeGreaterThan(30);
  });
});

describe("folders", () => {
  const write = async (name: string, files: Record<string, [string, TensorData][] | string>): Promise<string> => {
    const path = join(folder, name);
    mkdirSync(path);
    for (const [file, content] of Object.entries(files)) {
      if (typeof content === "string") writeFileSync(join(path, file), content);
      else await writeSafetensors(join(path, file), content, { [`from_${file}`]: "1" });
    }
    return path;
  };
  const a: [string, TensorData] = ["a", tensorFrom("float32", [1], [1])];
  const b: [string, TensorData] = ["b", tensorFrom("float32", [1], [2])];
  const index = (map: Record<string, unknown>): string =>
    JSON.stringify({ metadata: { total_size: 8 }, weight_map: map });
  const indexFile = "model.safetensors.index.json";

  test("one file", async () => {
    const { tensors } = await readSafetensorsFolder(await write("single", { "model.safetensors": [a, b] }));
    expect(toFloat32Array(tensors.get("b")!)).toEqual(Float32Array.of(2));
  });

  test("shards, also when they are links as in a model cache", async () => {
    const shards = { "one.safetensors": [a], "two.safetensors": [b] };
    const path = await write("sharded", {
      ...shards,
      [indexFile]: index({ a: "one.safetensors", b: "two.safetensors" }),
    });
    const { tensors, metadata } = await readSafetensorsFolder(path);
    expect([...tensors.keys()]).toEqual(["a", "b"]);
    expect(toFloat32Array(tensors.get("b")!)).toEqual(Float32Array.of(2));
    expect(metadata).toEqual({ "from_one.safetensors": "1", "from_two.safetensors": "1" });
    const linked = await write("linked", { [indexFile]: index({ a: "x.safetensors" }) });
    symlinkSync(join(path, "one.safetensors"), join(linked, "x.safetensors"));
    expect([...(await readSafetensorsFolder(linked)).tensors.keys()]).toEqual(["a"]);
  });

  test.each([
    ["../single/model.safetensors"],
    ["/etc/passwd"],
    ["sub/x.safetensors"],
    ["..\\x.safetensors"],
    ["..safetensors"],
    ["x.bin"],
    [7],
    [null],
  ])("a shard at %j is refused", async (shard) => {
    const path = join(folder, "outside");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, indexFile), index({ a: shard }));
    await expect(readSafetensorsFolder(path)).rejects.toMatchObject({ code: "SAFETENSORS_INVALID" });
  });

  test("an index that does not match its shards lists both sides", async () => {
    const path = await write("mismatch", { "one.safetensors": [a], [indexFile]: index({ c: "one.safetensors" }) });
    await expect(readSafetensorsFolder(path)).rejects.toThrow(/one.safetensors lacks "c"; one.safetensors has "a"/);
  });

  test.each([
    ["no weight map", "{}"],
    ["a list", '{"weight_map":[]}'],
    ["a tensor twice", '{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}'],
    ["no JSON", "{"],
  ])("an index with %s is refused", async (name, text) => {
    const path = await write(`index ${name}`, { [indexFile]: text });
    await expect(readSafetensorsFolder(path)).rejects.toMatchObject({ code: "SAFETENSORS_INVALID" });
  });

  test("missing shards and missing weights are named", async () => {
    const path = await write("incomplete", { [indexFile]: index({ a: "gone.safetensors" }) });
    await expect(readSafetensorsFolder(path)).rejects.toThrow(/gone\.safetensors/);
    await expect(readSafetensorsFolder(join(folder, "nowhere"))).rejects.toMatchObject({ code: "FILE_MISSING" });
  });
});
