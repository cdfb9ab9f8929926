import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model } from "../onnx/ir.ts";
import {
  blockwise,
  bnb4,
  nBits,
  type PackedLinear,
  perRow,
  randomFloats,
} from "../quantization/testing/packed-forms.ts";
import { convertibleProducts, createInt8Plan, keepInFloat32 } from "./plan.ts";
import { createTensorFile } from "./tensor-file.ts";
import { cosine, run, withGradient } from "./testing/gradient-run.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-peft-packed-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [WIDTH, HIDDEN, ROWS] = [128, 160, 12];
const OPSET = 21;

/** Two layers with weights of a few bits. */
function twoLayers(linear: PackedLinear): Model {
  const g = createBuilder(OPSET);
  const x = g.input("x", "float32", ["rows", WIDTH]);
  g.output(linear(g, g.tanh(linear(g, x, "up", HIDDEN, WIDTH, 3)), "down", WIDTH, HIDDEN, 4), "y");
  return toModel(g.finish({ name: "two" }), OPSET);
}

const forms: Readonly<Record<string, PackedLinear>> = {
  "MatMulNBits, 4 bits": nBits(4, 32, "absent"),
  "MatMulNBits, 8 bits, zero points and bias": nBits(8, 32, "packed", { bias: true }),
  "MatMulBnb4, NF4": bnb4("nf4", 64),
  "DequantizeLinear, int8 rows behind a Transpose": perRow,
  "DequantizeLinear, blocks of uint4": blockwise("uint4", 32),
};

const feeds = {
  x: { type: "float32", dims: [ROWS, WIDTH], data: randomFloats(ROWS * WIDTH, 11, 2) },
  dy: { type: "float32", dims: [ROWS, WIDTH], data: randomFloats(ROWS * WIDTH, 12) },
} as const;

test.each(Object.entries(forms))("%s: integers in both directions, the same up to rounding", async (form, linear) => {
  const model = twoLayers(linear);
  expect([...convertibleProducts(model).values()].map((p) => [p.inFeatures, p.outFeatures])).toEqual([
    [WIDTH, HIDDEN],
    [HIDDEN, WIDTH],
  ]);
  const file = createTensorFile(join(folder, form.replaceAll(/\W/g, "-")));
  const plan = createInt8Plan(model, { bits: 8, store: file.append });
  file.close();
  expect([...plan.linears.values()].map(({ name }) => name)).toEqual(["up", "down"]);
  // Nothing of the packed weights is read any more.
  expect([...plan.others.keys()]).toEqual([]);
  const g = withGradient(model, plan);
  const ops = g.finish().nodes.map(({ op }) => op);
  expect(ops.filter((op) => op === "DynamicQuantizeMatMul")).toHaveLength(4);
  for (const op of ["MatMulNBits", "MatMulBnb4", "DequantizeLinear", "MatMul", "FusedMatMul"])
    expect(ops).not.toContain(op);
  const [exact, rounded] = [await run(withGradient(model, null), feeds), await run(g, feeds)];
  expect(cosine(exact.y, rounded.y)).toBeGreaterThan(0.999);
  expect(cosine(exact.dx, rounded.dx)).toBeGreaterThan(0.999);
});

test("what is to stay as it is in the file stays, and is stored beside the others", async () => {
  const model = twoLayers(nBits(4, 32, "absent"));
  const file = createTensorFile(join(folder, "mixed"));
  const whole = createInt8Plan(model, { bits: 8, store: file.append });
  const plan = keepInFloat32(
    model,
    whole,
    new Map([["up.weight_Q4:transposed", "its error is too large"]]),
    file.append,
  );
  file.close();
  expect(plan.kept).toEqual([{ name: "up", reason: "its error is too large" }]);
  expect([...plan.others.keys()]).toEqual(["up.weight_Q4"]);
  const g = withGradient(model, plan);
  const ops = g.finish().nodes.map(({ op }) => op);
  expect(ops.filter((op) => op === "MatMulNBits")).toHaveLength(1);
  expect(ops.filter((op) => op === "DynamicQuantizeMatMul")).toHaveLength(2);
  const [exact, rounded] = [await run(withGradient(model, null), feeds), await run(g, feeds)];
  expect(cosine(exact.dx, rounded.dx)).toBeGreaterThan(0.999);
});
