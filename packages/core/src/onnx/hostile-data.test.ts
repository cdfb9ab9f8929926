import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeModel } from "./decode.ts";
import { readModel } from "./read.ts";
import { attributeFields, graphFields, tensorFields } from "./schema.ts";
import { readFileRange, stringTensor, toNumbers } from "./tensor.ts";
import { errorOf } from "./testing/errors.ts";
import * as wire from "./testing/wire.ts";
import { encodeModel, writeModel } from "./write.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hostile-data-"));
  mkdirSync(join(folder, "sub"));
  writeFileSync(join(folder, "w.bin"), new Uint8Array(64));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const withTensor = (...pieces: wire.Piece[]): Uint8Array => wire.modelBytes(wire.identityGraph(...pieces));
const codeOf = (...pieces: wire.Piece[]): string => errorOf(() => decodeModel(withTensor(...pieces), { folder })).code;
const zeros = (length: number): wire.Piece => wire.raw(new Uint8Array(length));
const packed = (field: number, ...values: number[]): wire.Piece =>
  wire.packed(field, (w) => {
    for (const value of values) w.int32(value);
  });
const { int32Data, int64Data, uint64Data, floatData, stringData } = tensorFields;

test("4-bit tensors take half a byte for an element, rounded up, and nothing else", () => {
  const read = (...pieces: wire.Piece[]) => decodeModel(withTensor(...pieces)).graph.initializers.get("w")!;
  expect(toNumbers(read(wire.initializer("w", "int4", [3], wire.raw(Uint8Array.of(0x81, 0x07)))))).toEqual([1, -8, 7]);
  expect(toNumbers(read(wire.initializer("w", "uint4", [3], packed(int32Data, 0x21, 0x03))))).toEqual([1, 2, 3]);
  for (const type of ["int4", "uint4", "float4e2m1"] as const) {
    for (const bytes of [0, 1, 3, 4])
      expect(codeOf(wire.initializer("w", type, [3], zeros(bytes)))).toBe("ONNX_INVALID");
    expect(codeOf(wire.initializer("w", type, [3], packed(int32Data, 1, 2, 3)))).toBe("ONNX_INVALID");
    expect(codeOf(wire.initializer("w", type, [1], packed(int32Data, 256)))).toBe("ONNX_INVALID");
  }
});

test("data of a broken length, in the wrong field, or in two fields is refused", () => {
  for (const piece of [
    wire.initializer("w", "float32", [1], wire.bytes(floatData, new Uint8Array(3))),
    wire.initializer("w", "float32", [1], wire.bytes(floatData, new Uint8Array(5))),
    wire.initializer("w", "float32", [1], wire.int(floatData, 1)),
    wire.initializer("w", "float32", [1], packed(int32Data, 1)),
    wire.initializer("w", "int32", [1], packed(int64Data, 1)),
    wire.initializer("w", "uint32", [1], packed(int32Data, 1)),
    wire.initializer("w", "bool", [1], packed(int32Data, 256)),
    wire.initializer("w", "float16", [1], packed(int32Data, 65_536)),
    wire.initializer("w", "int32", [1], packed(int32Data, 1), packed(uint64Data, 1)),
    wire.initializer("w", "int32", [1], packed(int32Data, 1), zeros(4)),
    wire.initializer("w", "float32", [1], zeros(4), wire.external({ location: "w.bin" })),
    // A packed list whose last number goes on behind its end.
    wire.initializer("w", "int64", [1], wire.bytes(int64Data, Uint8Array.of(0x80))),
  ]) {
    expect(["ONNX_INVALID", "ONNX_TRUNCATED"]).toContain(codeOf(piece));
  }
  const floats = wire.attributePiece("a", 6, wire.bytes(attributeFields.floats, new Uint8Array(6)));
  const node = wire.nodePiece("Op", ["x"], ["y"], floats);
  const edges = [wire.valuePiece(graphFields.input, "x", [1]), wire.valuePiece(graphFields.output, "y", [1])];
  expect(errorOf(() => decodeModel(wire.modelBytes([node, ...edges]))).message).toContain("floats of a broken length");
});

test("products of dimensions beyond 2^53, also beside a zero, are refused before anything is allocated", () => {
  for (const dims of [
    [2 ** 27, 2 ** 27],
    [2 ** 40, 2 ** 40, 0],
    [0, 2 ** 40, 2 ** 40],
    [2 ** 40, 2 ** 13],
    [1, -1],
    [-(2 ** 40), -(2 ** 40)],
  ]) {
    expect(codeOf(wire.initializer("w", "float64", dims, zeros(8)))).toBe("ONNX_LIMIT");
  }
  expect(codeOf(wire.initializer("w", "float32", [2n ** 63n - 1n], zeros(4)))).toBe("ONNX_LIMIT");
  expect(codeOf(wire.initializer("w", "string", [2 ** 40], wire.text(stringData, "a")))).toBe("ONNX_INVALID");
});

test("texts: other data, other counts and other bytes are refused", () => {
  expect(codeOf(wire.initializer("w", "string", [1], zeros(1)))).toBe("ONNX_INVALID");
  expect(codeOf(wire.initializer("w", "float32", [1], wire.text(stringData, "abcd")))).toBe("ONNX_INVALID");
  expect(codeOf(wire.initializer("w", "string", [1], wire.external({ location: "w.bin" })))).toBe("ONNX_INVALID");
  expect(codeOf(wire.initializer("w", "string", [1], wire.bytes(stringData, Uint8Array.of(0xff))))).toBe(
    "ONNX_UNSUPPORTED",
  );
  const texts = stringTensor([2], ["a", "\u0000é"]);
  const model = decodeModel(
    withTensor(wire.initializer("w", "string", [2], ...texts.strings!.map((text) => wire.text(stringData, text)))),
  );
  expect(decodeModel(encodeModel(model)).graph.initializers.get("w")).toEqual(texts);
});

const external = (name: string, dims: number[], entries: Record<string, string>): wire.Piece =>
  wire.initializer(name, "uint8", dims, wire.external({ location: "w.bin", ...entries }));

test("external ranges may be shared as a whole, and overlap in no other way", async () => {
  const range = (offset: number, length: number) => ({ offset: `${offset}`, length: `${length}` });
  const decode = (...pieces: wire.Piece[]) => decodeModel(withTensor(...pieces), { folder });
  const model = decode(
    external("a", [16], range(0, 16)),
    external("b", [4, 4], range(0, 16)),
    external("c", [8], range(16, 8)),
    external("none", [0], range(20, 0)),
  );
  for (const [offset, length] of [
    [8, 16],
    [0, 8],
    [4, 4],
    [15, 1],
  ] as const) {
    const error = errorOf(() =>
      decode(external("a", [16], range(0, 16)), external("b", [length], range(offset, length))),
    );
    expect([error.code, error.message]).toEqual(["ONNX_EXTERNAL_DATA", expect.stringContaining("overlap")]);
  }
  const path = join(folder, "sub", "copy.onnx");
  await writeModel(model, path, { externalData: { fileName: "copy.data", threshold: 1 } });
  const { initializers } = (await readModel(path)).graph;
  expect(initializers.get("b")!.data).toEqual(initializers.get("a")!.data);
});

test("external data that is a device or a pipe is refused without waiting for it", async () => {
  symlinkSync("/dev/zero", join(folder, "zero.bin"));
  for (const location of [
    "zero.bin",
    "sub",
    "sub/.",
    "w.bin/w.bin",
    "loop.bin",
    " ",
    "C:/w.bin",
    "\\w.bin",
    "//host/w.bin",
  ]) {
    if (location === "loop.bin") symlinkSync("loop.bin", join(folder, "loop.bin"));
    const error = errorOf(() => decodeModel(withTensor(external("w", [1], { location })), { folder }));
    expect(error.code, location).toBe("ONNX_EXTERNAL_DATA");
  }
  const allowed = errorOf(() =>
    decodeModel(withTensor(external("w", [1], { location: "zero.bin" })), { folder, allowLinksInto: ["/dev"] }),
  );
  expect(allowed).toMatchObject({ code: "ONNX_EXTERNAL_DATA", message: expect.stringContaining("not a regular file") });
  await expect(readModel("/dev/zero")).rejects.toMatchObject({ code: "FILE_RANGE" });
});

test.skipIf(process.platform === "win32")("a pipe is never waited for", async () => {
  const pipe = join(folder, "pipe.bin");
  execFileSync("mkfifo", [pipe]);
  expect(codeOf(external("w", [1], { location: "pipe.bin" }))).toBe("ONNX_EXTERNAL_DATA");
  await expect(readModel(pipe)).rejects.toMatchObject({ code: "FILE_RANGE" });
  expect(errorOf(() => readFileRange({ path: pipe, offset: 0, length: 1 })).code).toBe("FILE_RANGE");
});

test("a file that shrinks after it was read is noticed", () => {
  const path = join(folder, "shrinks.bin");
  writeFileSync(path, new Uint8Array(16));
  const bytes = withTensor(external("w", [16], { location: "shrinks.bin" }));
  const tensor = decodeModel(bytes, { folder }).graph.initializers.get("w")!;
  writeFileSync(path, new Uint8Array(8));
  expect(errorOf(() => toNumbers(tensor)).code).toBe("FILE_RANGE");
});
