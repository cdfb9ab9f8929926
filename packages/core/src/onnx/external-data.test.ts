import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type DecodeModelOptions, decodeModel } from "./decode.ts";
import { readModel } from "./read.ts";
import { toNumbers } from "./tensor.ts";
import { errorOf } from "./testing/errors.ts";
import * as wire from "./testing/wire.ts";

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "external-"));
  folder = join(root, "model");
  mkdirSync(join(folder, "sub"), { recursive: true });
  mkdirSync(join(root, "blobs"));
  const data = new Uint8Array(Float32Array.from([1, 2, 3, 4]).buffer);
  for (const path of ["model/w.bin", "model/sub/w.bin", "blobs/w.bin", "outside.bin"])
    writeFileSync(join(root, path), data);
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

const file = (entries: Record<string, string>): Uint8Array =>
  wire.modelBytes(wire.identityGraph(wire.initializer("w", "float32", [2], wire.external(entries))));
const decode = (entries: Record<string, string>, options: DecodeModelOptions = {}) =>
  decodeModel(file(entries), { folder, ...options }).graph.initializers.get("w")!;

test("bytes of a file in the folder, or below it, become a range", async () => {
  expect(toNumbers(decode({ location: "w.bin", offset: "4", length: "8" }))).toEqual([2, 3]);
  expect(toNumbers(decode({ location: "sub/w.bin", offset: "8" }))).toEqual([3, 4]);
  expect(toNumbers(decode({ location: "./w.bin", checksum: "ignored" }))).toEqual([1, 2]);
  const path = join(folder, "model.onnx");
  writeFileSync(path, file({ location: "w.bin", offset: "4" }));
  expect(toNumbers((await readModel(path)).graph.initializers.get("w")!)).toEqual([2, 3]);
});

test("a location that leaves the folder, or is no file name, is refused", () => {
  for (const location of [
    "../outside.bin",
    "sub/../../outside.bin",
    "sub\\..\\..\\outside.bin",
    "..",
    join(root, "outside.bin"),
    join(folder, "w.bin"),
    "C:\\w.bin",
    "C:w.bin",
    "\\\\server\\share\\w.bin",
    "*/_ORT_MEM_ADDR_/*",
    "w.bin\0.txt",
    "",
    "missing.bin",
    "sub",
    ".",
  ]) {
    const error = errorOf(() => decode({ location }));
    expect([error.code, error.message], location).toEqual([
      "ONNX_EXTERNAL_DATA",
      expect.stringContaining("initializer[0]"),
    ]);
  }
  expect(errorOf(() => decode({ offset: "0" })).code).toBe("ONNX_EXTERNAL_DATA");
  expect(errorOf(() => decodeModel(file({ location: "w.bin" }))).message).toContain("w.bin");
});

test("symbolic and hard links are refused unless their target's folder is named", () => {
  symlinkSync(join(root, "outside.bin"), join(folder, "escape.bin"));
  symlinkSync(join(folder, "w.bin"), join(folder, "alias.bin"));
  symlinkSync(root, join(folder, "up"));
  symlinkSync("../blobs/w.bin", join(folder, "cached.bin"));
  linkSync(join(root, "outside.bin"), join(folder, "hard.bin"));
  for (const location of ["escape.bin", "alias.bin", "up/outside.bin", "cached.bin", "hard.bin"]) {
    expect(errorOf(() => decode({ location })).code, location).toBe("ONNX_EXTERNAL_DATA");
  }
  const allowLinksInto = [join(root, "blobs")];
  expect(toNumbers(decode({ location: "cached.bin" }, { allowLinksInto }))).toEqual([1, 2]);
  for (const location of ["escape.bin", "up/outside.bin", "hard.bin"]) {
    expect(errorOf(() => decode({ location }, { allowLinksInto })).code, location).toBe("ONNX_EXTERNAL_DATA");
  }
  expect(toNumbers(decode({ location: "hard.bin" }, { allowLinksInto: [folder] }))).toEqual([1, 2]);
});

test("offset and length must be whole numbers, in the file, and fit the tensor", () => {
  for (const entries of [
    { offset: "-4" },
    { offset: "4.0" },
    { offset: "1e1" },
    { offset: "0x4" },
    { offset: " 4" },
    { offset: "99999999999999999999" },
    { offset: "9007199254740991" },
    { offset: "9" },
    { length: "4" },
    { length: "16" },
    { length: "-8" },
  ]) {
    const error = errorOf(() => decode({ location: "w.bin", ...entries } as Record<string, string>));
    expect(error.code, JSON.stringify(entries)).toBe("ONNX_EXTERNAL_DATA");
  }
  const huge = wire.modelBytes(
    wire.identityGraph(wire.initializer("w", "float32", [2 ** 35], wire.external({ location: "w.bin" }))),
  );
  expect(errorOf(() => decodeModel(huge, { folder })).code).toBe("ONNX_EXTERNAL_DATA");
});
