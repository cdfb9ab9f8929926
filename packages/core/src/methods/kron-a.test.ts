import { describe, expect, test } from "vitest";
import { injectAdapter } from "../adapters/inject.ts";
import type { SiteShape } from "../adapters/site.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { matrix, multiply } from "../linalg/matrix.ts";
import { singularValues } from "../linalg/svd.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { kronA } from "./kron-a.ts";
import { lokr } from "./lokr.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { frozenOf, type OneSite, parsedConfig, runOneSite, siteOf } from "./testing/one-site.ts";

const random = testRandom(81);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const weight = draw(8, 6);
const layer = (config: object): OneSite => ({ method: kronA as unknown as Method, config: { ...config }, weight });
function changeOf(config: object, A: AdapterTensor, B: AdapterTensor): Float32Array {
  const at = layer(config);
  const delta = kronA.delta!({ A, B }, parsedConfig(at) as never, siteOf(at), frozenOf(at));
  return (delta.weight as { add: Float32Array }).add;
}
const rankOf = (rows: number, columns: number, data: ArrayLike<number>): number => {
  const s = singularValues(matrix(rows, columns, data));
  return s.filter((v) => v > 1e-5 * s[0]!).length;
};
/** A product of two random matrices. */
const ofRank = (rows: number, columns: number, r: number): AdapterTensor => ({
  dims: [rows, columns],
  data: Float32Array.from(
    multiply(matrix(rows, r, draw(rows, r).data), matrix(r, columns, draw(r, columns).data)).data,
  ),
});

describe("layouts by their index formulas", () => {
  const [A, B] = [draw(2, 3), draw(4, 2)];
  test.each([
    ["official", (j: number, i: number) => i * 2 + j],
    ["paper", (j: number, i: number) => j * 4 + i],
  ] as const)("%s", (layout, rowOf) => {
    const change = changeOf({ a1: 2, a2: 3, layout, scale: 1.5 }, A, B);
    for (let j = 0; j < 2; j++)
      for (let i = 0; i < 4; i++)
        for (let q = 0; q < 3; q++)
          for (let p = 0; p < 2; p++)
            expect(change[rowOf(j, i) * 6 + q * 2 + p]).toBeCloseTo(1.5 * A.data[j * 3 + q]! * B.data[i * 2 + p]!, 6);
  });
  test("official is paper with its rows in another order: the same singular values, each row once", () => {
    const [official, paper] = (["official", "paper"] as const).map((layout) =>
      changeOf({ a1: 2, a2: 3, layout }, A, B),
    );
    const rows = (c: Float32Array): string[] => Array.from({ length: 8 }, (_, o) => c.slice(o * 6, o * 6 + 6).join());
    expect(rows(official!)).not.toEqual(rows(paper!));
    expect(rows(official!).sort()).toEqual(rows(paper!).sort());
  });
});

describe("limits", () => {
  test("A one row as wide as the input: every change is an outer product", () => {
    const change = changeOf({ a1: 1, a2: 6 }, draw(1, 6), draw(8, 1));
    expect(rankOf(8, 6, change)).toBe(1);
  });
  test("A as large as the weight is a free matrix, and so is B", () => {
    const free = draw(8, 6);
    const one: AdapterTensor = { dims: [1, 1], data: Float32Array.of(1) };
    for (const layout of ["official", "paper"]) {
      expect(changeOf({ a1: 8, a2: 6, layout }, free, one)).toEqual(free.data);
      expect(changeOf({ a1: 1, a2: 1, layout }, one, free)).toEqual(free.data);
    }
    const sites = [siteOf({ weight })];
    const countOf = (a1: number, a2: number): number => parameterCount(kronA, kronA.config.parse({ a1, a2 }), sites);
    expect([countOf(8, 6), countOf(1, 1)]).toEqual([49, 49]);
  });
  test("the paper's layout is LoKr with full factors, bit for bit", async () => {
    const [A, B, x, dy] = [draw(2, 3), draw(4, 2), draw(5, 6), draw(40).data];
    const ours = { a1: 2, a2: 3, layout: "paper" };
    const at: OneSite = { method: lokr as unknown as Method, config: { r: 4, alpha: 4, decomposeFactor: 2 }, weight };
    const delta = lokr.delta!({ w1: A, w2: B }, parsedConfig(at) as never, siteOf(at), frozenOf(at));
    expect(changeOf(ours, A, B)).toEqual((delta.weight as { add: Float32Array }).add);
    const [found, expected] = [
      await runOneSite(layer(ours), { A, B }, x, dy),
      await runOneSite(at, { w1: A, w2: B }, x, dy),
    ];
    expect(found.y).toEqual(expected.y);
    expect(found.dx).toEqual(expected.dx);
  });
});

test("the rank is the product of the factors' ranks", () => {
  for (const [a, b] of [
    [1, 2],
    [2, 1],
    [2, 2],
  ] as const)
    expect(rankOf(8, 6, changeOf({ a1: 2, a2: 3 }, ofRank(2, 3, a), ofRank(4, 2, b)))).toBe(a * b);
});

test("sizes that do not divide are an error that names the module, before any training", () => {
  for (const config of [
    { a1: 3, a2: 2 },
    { a1: 4, a2: 5 },
  ])
    expect(() =>
      injectAdapter(tinyModel(), { method: kronA, config: { ...config, targetModules: ["query"] } }),
    ).toThrow(expect.objectContaining({ message: expect.stringMatching(/a1 \d or a2 \d/) }));
});

describe("published parameter counts, from shapes alone", () => {
  const linear = (inFeatures: number, outFeatures: number): SiteShape => ({
    ...{
      name: `${inFeatures}`,
      kind: "linear",
      inFeatures,
      outFeatures,
      weightShape: [outFeatures, inFeatures],
      hasBias: false,
    },
  });
  const blocks = (times: number, width: number, context: number): SiteShape[] =>
    Array.from({ length: times }, () => [
      ...Array.from({ length: 6 }, () => linear(width, width)),
      ...Array.from({ length: 2 }, () => linear(context, width)),
    ]).flat();
  const kron = (a1: number, a2: number, sites: SiteShape[]): number =>
    parameterCount(kronA, kronA.config.parse({ a1, a2 }), sites);
  const loraOf = (sites: SiteShape[]): number => parameterCount(lora, lora.config.parse({ r: 4 }), sites);

  test("SDXL: products of 512 and 1,024, of which the larger is smaller", () => {
    const sdxl = [...blocks(10, 640, 2048), ...blocks(60, 1280, 2048)];
    expect([kron(8, 64, sdxl), kron(64, 16, sdxl)]).toEqual([2_152_320, 1_506_240]);
  });
  test("Stable Diffusion 1.x, the UNet alone and with its text encoder", () => {
    const unet = [...blocks(5, 320, 768), ...blocks(5, 640, 768), ...blocks(6, 1280, 768)];
    const text = Array.from({ length: 48 }, () => linear(768, 768));
    expect([loraOf(unet), kron(4, 64, unet)]).toEqual([797_184, 398_048]);
    expect([loraOf([...unet, ...text]), kron(4, 64, [...unet, ...text])]).toEqual([1_092_096, 520_928]);
  });
});
