import { expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { qwha } from "./qwha.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";

const random = testRandom(121);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});

test("r (m + n) coefficients: 97,255,424 for Llama-3.2-3B with r 64, as LoRA", () => {
  const site = (name: string, inFeatures: number, outFeatures: number): SiteShape => ({
    ...{ name, kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: false },
  });
  const sites = Array.from({ length: 28 }, (_, i) => [
    ...["q", "o"].map((n) => site(`${i}.${n}`, 3072, 3072)),
    ...["k", "v"].map((n) => site(`${i}.${n}`, 3072, 1024)),
    ...["gate", "up"].map((n) => site(`${i}.${n}`, 3072, 8192)),
    site(`${i}.down`, 8192, 3072),
  ]).flat();
  expect(parameterCount(qwha, qwha.config.parse({ r: 64 }), sites)).toBe(97_255_424);
  expect(parameterCount(lora, lora.config.parse({ r: 64 }), sites)).toBe(97_255_424);
});

test("another factor with values divided by it is the same function", async () => {
  const at: OneSite = { method: qwha as unknown as Method, config: { r: 1, scaling: 20 }, weight: draw(6, 12) };
  const tensors = { ...startOf(at), values: draw(18) };
  const [x, dy] = [draw(3, 12), draw(18).data];
  const other = { ...tensors, values: { dims: [18], data: tensors.values.data.map((v) => (v * 20) / 150) } };
  const [a, b] = [
    await runOneSite(at, tensors, x, dy),
    await runOneSite({ ...at, config: { r: 1, scaling: 150 } }, other, x, dy),
  ];
  a.y.forEach((v, i) => {
    expect(Math.abs(v - b.y[i]!)).toBeLessThan(1e-5);
  });
});
