import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { elementCount, readTensorBytes, stringTensor, tensorFrom, toFloat32Array, toNumbers } from "./tensor.ts";
import { errorOf } from "./testing/errors.ts";

test("integers of every type come back as numbers", () => {
  const cases = {
    int8: [-128, 127],
    uint8: [0, 255],
    int16: [-32768, 32767],
    uint16: [0, 65535],
    int32: [-(2 ** 31), 2 ** 31 - 1],
    uint32: [0, 2 ** 32 - 1],
    int64: [-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    uint64: [0, Number.MAX_SAFE_INTEGER],
    bool: [0, 1],
    int4: [-8, 7],
    uint4: [0, 15],
    float64: [-0.1, 1e300],
  } as const;
  for (const [type, values] of Object.entries(cases)) {
    expect(toNumbers(tensorFrom(type as keyof typeof cases, [2], values)), type).toEqual(values);
  }
  expect(toNumbers(tensorFrom("int4", [3], [-1, 2, -3]))).toEqual([-1, 2, -3]);
  expect(tensorFrom("int4", [3], [-1, 2, -3]).data).toEqual(new Uint8Array([0x2f, 0x0d]));
});

test("values that do not fit are refused by index", () => {
  for (const [type, value] of [
    ["int8", 128],
    ["uint8", -1],
    ["int32", 1.5],
    ["uint64", -1],
    ["int64", 2 ** 60],
    ["bool", 2],
    ["uint4", 16],
  ] as const) {
    const error = errorOf(() => tensorFrom(type, [2], [0, value]));
    expect([error.code, error.message], type).toEqual(["VALUE_OUT_OF_RANGE", expect.stringContaining("index 1")]);
  }
  expect(errorOf(() => toNumbers(tensorFrom("int64", [1], [2n ** 60n]))).code).toBe("VALUE_OUT_OF_RANGE");
  expect(errorOf(() => tensorFrom("float32", [2, 2], [1, 2, 3])).code).toBe("SHAPE_MISMATCH");
  expect(errorOf(() => tensorFrom("float8e5m2", [1], [1])).code).toBe("ONNX_UNSUPPORTED");
  expect(errorOf(() => stringTensor([2], ["a"])).code).toBe("SHAPE_MISMATCH");
});

test("floating types convert to float32 that the caller owns", () => {
  const source = new Float32Array([1, 2.5]);
  const tensor = tensorFrom("float32", [2], source);
  const copy = toFloat32Array(tensor);
  copy[0] = 9;
  expect(source[0]).toBe(1);
  for (const type of ["float16", "bfloat16", "float64"] as const) {
    expect(Array.from(toFloat32Array(tensorFrom(type, [2], [1, -2.5]))), type).toEqual([1, -2.5]);
  }
  expect(Array.from(toFloat32Array(tensorFrom("float16", [1], new Uint16Array([0x3c00]))))).toEqual([1]);
  expect(errorOf(() => toFloat32Array(tensorFrom("int32", [1], [1]))).code).toBe("ONNX_UNSUPPORTED");
});

test("unaligned views are read", () => {
  for (const type of ["float32", "float64", "float16", "int64", "int16"] as const) {
    const { data } = tensorFrom(type, [2], [3, -4]);
    const shifted = new Uint8Array(data.length + 1);
    shifted.set(data, 1);
    const tensor = { type, dims: [2], data: shifted.subarray(1) };
    expect(toNumbers(tensor), type).toEqual([3, -4]);
    if (type.startsWith("float")) expect(Array.from(toFloat32Array(tensor)), type).toEqual([3, -4]);
  }
});

test("file ranges are read, and a short or missing file is named", () => {
  const folder = mkdtempSync(join(tmpdir(), "tensor-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "data.bin");
  writeFileSync(path, new Uint8Array([9, 0, 0, 128, 63, 0, 0, 0, 64]));
  const tensor = { type: "float32", dims: [2], data: { path, offset: 1, length: 8 } } as const;
  expect(Array.from(toFloat32Array(tensor))).toEqual([1, 2]);
  expect(readTensorBytes(tensor).length).toBe(8);
  const tooFar = { ...tensor, data: { path, offset: 2, length: 8 } };
  expect(errorOf(() => readTensorBytes(tooFar))).toMatchObject({
    code: "FILE_RANGE",
    message: expect.stringContaining(path),
  });
  const missing = { ...tensor, data: { path: `${path}.none`, offset: 0, length: 8 } };
  expect(errorOf(() => readTensorBytes(missing)).code).toBe("FILE_RANGE");
  expect(errorOf(() => toFloat32Array({ ...tensor, dims: [3] })).code).toBe("SHAPE_MISMATCH");
});

test("element counts are safe", () => {
  expect([elementCount([]), elementCount([2, 3]), elementCount([5, 0])]).toEqual([1, 6, 0]);
  for (const dims of [[-1], [1.5], [2 ** 30, 2 ** 30]])
    expect(errorOf(() => elementCount(dims)).code).toBe("ONNX_LIMIT");
});
