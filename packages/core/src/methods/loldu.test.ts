import { describe, expect, test } from "vitest";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import type { SiteShape } from "../adapters/site.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { ldu } from "../linalg/lu.ts";
import { type Matrix, matrix, multiply, scaleRows } from "../linalg/matrix.ts";
import { largestDifference } from "../linalg/measure.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { loldu } from "./loldu.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { frozenOf, type OneSite, parsedConfig, runOneSite, siteOf, startOf } from "./testing/one-site.ts";
import { vera } from "./vera.ts";

const random = testRandom(101);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const weight = draw(7, 5);
const layer = (config: object): OneSite => ({ method: loldu as unknown as Method, config: { ...config }, weight });
const changeOf = (at: OneSite, tensors: Record<string, AdapterTensor>): Matrix => {
  const delta = at.method.delta!(tensors, parsedConfig(at), siteOf(at), frozenOf(at));
  return matrix(7, 5, (delta.weight as { add: Float32Array }).add);
};

test.each([
  ["square", 6, 6],
  ["tall", 7, 3],
  ["wide", 3, 7],
  ["one row", 1, 5],
  ["singular", 6, 6],
])("P L diag(d) U is the weight: %s", (name, rows, columns) => {
  const full = matrix(rows, columns, draw(rows, columns).data);
  const a = name === "singular" ? multiply(matrix(6, 2, draw(6, 2).data), matrix(2, 6, draw(2, 6).data)) : full;
  const { permutation, l, d, u } = ldu(a);
  const permuted = multiply(l, scaleRows(u, d));
  const back = matrix(rows, columns);
  permutation.forEach((from, i) => {
    back.data.set(permuted.data.subarray(i * columns, (i + 1) * columns), from * columns);
  });
  expect(largestDifference(back, a)).toBeLessThan(1e-5 * Math.max(...a.data.map(Math.abs)));
});

test("four starts leave the model bit for bit as it is, the others change it", async () => {
  const [x, dy] = [draw(3, 5), draw(21).data];
  const zero = layer({ r: 3 });
  const { y: base } = await runOneSite(zero, startOf(zero), x, dy);
  const moved = async (initMethod: string): Promise<boolean> => {
    const at = layer({ r: 3, initMethod });
    const start = startOf(at);
    if (initMethod !== "lu") expect(start["z"]!.data).not.toEqual(startOf(zero)["z"]!.data);
    return (await runOneSite(at, start, x, dy)).y.some((v, i) => v !== base[i]);
  };
  for (const initMethod of ["lu", "uniform", "normal", "constant"])
    expect(await moved(initMethod), initMethod).toBe(false);
  for (const initMethod of ["s_uniform", "s_normal", "ones", "zeros"])
    expect(await moved(initMethod), initMethod).toBe(true);
});

describe("limits", () => {
  test("at full rank the weight is s P L diag(z) U alone", () => {
    const at = layer({ r: 5, alpha: 5 });
    const start = startOf(at);
    const z = draw(5);
    const [left, right] = [matrix(7, 5, start["L"]!.data), matrix(5, 5, start["U"]!.data)];
    const changed = changeOf(at, { ...start, z });
    const whole = matrix(
      7,
      5,
      changed.data.map((v, i) => v + weight.data[i]!),
    );
    expect(largestDifference(whole, multiply(left, scaleRows(right, z.data)))).toBeLessThan(1e-5);
  });
  test("is VeRA with frozen factors U and P L, moved by the start", () => {
    const at = layer({ r: 4 });
    const start: Record<string, AdapterTensor> = { ...startOf(at), z: draw(4) };
    const d = { dims: [4], data: start["z"]!.data.map((v, k) => v - start["z0"]!.data[k]!) };
    const b = { dims: [7], data: new Float32Array(7).fill(1) };
    const twin: OneSite = { ...at, method: vera as unknown as Method, config: { r: 4 } };
    const expected = changeOf(twin, { A: start["U"]!, B: start["L"]!, d, b });
    expect(largestDifference(changeOf(at, start), expected)).toBeLessThan(1e-6);
  });
});

test("the change on activations is the change of the weight, and z's gradient that of finite differences", async () => {
  const at = layer({ r: 4, alpha: 6 });
  const start: Record<string, AdapterTensor> = { ...startOf(at), z: draw(4) };
  const [x, dy] = [draw(3, 5), draw(21).data];
  const change = changeOf(at, start);
  const { y, gradients } = await runOneSite(at, start, x, dy);
  y.forEach((v, i) => {
    const row = [0, 1, 2, 3, 4];
    const w = (j: number): number => weight.data[(i % 7) * 5 + j]! + change.data[(i % 7) * 5 + j]!;
    expect(Math.abs(v - row.reduce((sum, j) => sum + x.data[Math.floor(i / 7) * 5 + j]! * w(j), 0))).toBeLessThan(
      1e-5 * 10,
    );
  });
  const sumAt = async (k: number, h: number): Promise<number> => {
    const z = { dims: [4], data: start["z"]!.data.map((v, i) => (i === k ? v + h : v)) };
    return (await runOneSite(at, { ...start, z }, x, dy)).y.reduce((sum, v, i) => sum + v * dy[i]!, 0);
  };
  for (let k = 0; k < 4; k++) {
    const found = ((await sumAt(k, 0.1)) - (await sumAt(k, -0.1))) / 0.2;
    expect(Math.abs(found - gradients["z"]![k]!)).toBeLessThan(1e-4 * Math.max(1, Math.abs(found)));
  }
});

test("as LoRA of rank r it is exact; another base model is refused by its pivots", () => {
  const model = prepareModel(tinyModel());
  const adapter = movedAdapter(model, "LOLDU", { r: 3, targetModules: ["query", "intermediate.dense"] }, 3);
  const { error, sites } = convertToLora(model, adapter, { rank: 3 });
  expect(error).toBeLessThan(1e-6);
  expect(sites).toHaveLength(4);
  expect(() => mergeAdapter(prepareModel(tinyModel(5)), adapter)).toThrow(
    expect.objectContaining({ code: "BASE_MISMATCH" }),
  );
});

test("55,296 for ViT-base, 16,384 for LLaMA-2-7B, 18,432 for RoBERTa-base, from shapes alone", () => {
  const site = (inFeatures: number, outFeatures: number): SiteShape => ({
    ...{ name: "s", kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: true },
  });
  const countOf = (r: number, sites: SiteShape[]): number => parameterCount(loldu, loldu.config.parse({ r }), sites);
  const vit = Array.from({ length: 12 }, () => [
    ...Array.from({ length: 4 }, () => site(768, 768)),
    site(768, 3072),
    site(3072, 768),
  ]).flat();
  expect(countOf(768, vit)).toBe(55_296);
  expect(
    countOf(
      256,
      Array.from({ length: 64 }, () => site(4096, 4096)),
    ),
  ).toBe(16_384);
  expect(
    countOf(
      768,
      Array.from({ length: 24 }, () => site(768, 768)),
    ),
  ).toBe(18_432);
});
