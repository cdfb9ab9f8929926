import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import type { SiteShape } from "../adapters/site.ts";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { matrix } from "../linalg/matrix.ts";
import { singularValues } from "../linalg/svd.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { randlora } from "./randlora.ts";
import {
  frozenOf,
  keptByBackward,
  type OneSite,
  parsedConfig,
  runOneSite,
  siteOf,
  startOf,
} from "./testing/one-site.ts";
import { regression, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(41);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const layer = (inFeatures: number, outFeatures: number, config: object): OneSite => ({
  method: randlora as unknown as Method,
  config: { ...config },
  weight: draw(outFeatures, inFeatures),
});
const changeOf = (at: OneSite, tensors: Record<string, AdapterTensor>): Float32Array => {
  const delta = at.method.delta!(tensors, parsedConfig(at), siteOf(at), frozenOf(at));
  return (delta.weight as { add: Float32Array }).add;
};

test("at the start only lambda has a gradient", async () => {
  for (const [inner, outer] of [
    [5, 7],
    [7, 5],
  ] as const) {
    const at = layer(inner, outer, { r: 2, alpha: 6 });
    const { gradients, y } = await runOneSite(at, startOf(at), draw(3, inner), draw(3, outer).data);
    expect([...gradients["gamma"]!].every((v) => v === 0)).toBe(true);
    expect([...gradients["lambda"]!].every((v) => v !== 0)).toBe(true);
    expect(y.some((v) => v !== 0)).toBe(true);
  }
});

describe("pairing of lambda's and B's columns", () => {
  interface GoldenLayer {
    config: Record<string, unknown>;
    weight: { dims: number[]; data: number[] };
    tensors: Record<string, { dims: number[]; data: number[] }>;
    x: { dims: number[]; data: number[] };
    y: number[];
    bias: number[];
  }
  const file = new URL("../../../../parity/golden/papers/randlora.json", import.meta.url);
  const { layers } = JSON.parse(readFileSync(file, "utf8")) as { layers: GoldenLayer[] };

  test.each(layers)(
    "is peft's, and the paper's would be another function",
    ({ config, weight, tensors, x, y, bias }) => {
      const tensorOf = ({ dims, data }: { dims: number[]; data: number[] }) => ({
        dims,
        data: Float32Array.from(data),
      });
      const at: OneSite = { method: randlora as unknown as Method, config, weight: tensorOf(weight) };
      const given = Object.fromEntries(Object.entries(tensors).map(([role, t]) => [role, tensorOf(t)]));
      /** Output for the first row of x with a change of the weight. */
      const outputs = (change: Float32Array): number[] =>
        bias.map((c, o) => {
          const inner = weight.dims[1]!;
          let sum = c;
          for (let i = 0; i < inner; i++) sum += x.data[i]! * (weight.data[o * inner + i]! + change[o * inner + i]!);
          return sum;
        });
      const away = (values: number[]): number => Math.max(...values.map((v, o) => Math.abs(v - y[o]!)));
      expect(away(outputs(changeOf(at, given)))).toBeLessThan(1e-5);
      // The paper's sum over bases: slice j of B meets lambda_j and gamma_j. As peft lays B out, entry (j, k) goes where (k, j) is read.
      const [large, bases, r] = given["B"]!.dims as [number, number, number];
      const paired = Float32Array.from({ length: large * bases * r }, (_, at_) => {
        const [o, c] = [Math.floor(at_ / (bases * r)), at_ % (bases * r)];
        return given["B"]!.data[o * bases * r + (c % bases) * r + Math.floor(c / bases)]!;
      });
      expect(away(outputs(changeOf(at, { ...given, B: { dims: given["B"]!.dims, data: paired } })))).toBeGreaterThan(
        1e-2,
      );
    },
  );
});

describe("limits", () => {
  test("with gamma fixed the change is linear in lambda", () => {
    const at = layer(6, 8, { r: 2, alpha: 6 });
    const start = startOf(at);
    const [one, two] = [draw(2, 3), draw(2, 3)];
    const both = { dims: [2, 3], data: one.data.map((v, i) => 2 * v - 3 * two.data[i]!) };
    const [a, b, c] = [one, two, both].map((lambda) => changeOf(at, { ...start, lambda }));
    c!.forEach((v, i) => {
      expect(Math.abs(v - (2 * a![i]! - 3 * b![i]!))).toBeLessThan(1e-5);
    });
  });
  test("the official factor is peft's divided by the root of the number of bases", () => {
    const at = layer(6, 8, { r: 2, alpha: 6, scaling: "official" });
    const tensors = { ...startOf(at), lambda: draw(2, 3) };
    const twin = { ...at, config: { r: 2, alpha: 6 / Math.sqrt(3) } };
    expect(changeOf(at, tensors)).toEqual(changeOf(twin, tensors));
  });
});

const linear = (name: string, inFeatures: number, outFeatures: number): SiteShape => ({
  name,
  kind: "linear",
  inFeatures,
  outFeatures,
  weightShape: [outFeatures, inFeatures],
  hasBias: false,
});

test("LLaMA-3-8B with r 30 has as many parameters as LoRA with r 32; the larger r, the fewer", () => {
  const sites = Array.from({ length: 32 }, (_, i) => [
    linear(`layers.${i}.q_proj`, 4096, 4096),
    linear(`layers.${i}.k_proj`, 4096, 1024),
    linear(`layers.${i}.v_proj`, 4096, 1024),
    linear(`layers.${i}.up_proj`, 4096, 14336),
    linear(`layers.${i}.down_proj`, 14336, 4096),
  ]).flat();
  const countOf = (r: number): number => parameterCount(randlora, randlora.config.parse({ r }), sites);
  expect(countOf(30)).toBe(56_626_112);
  expect(parameterCount(lora, lora.config.parse({ r: 32 }), sites)).toBe(56_623_104);
  const counts = [4, 8, 16, 32, 64].map(countOf);
  expect(counts).toEqual([...counts].sort((a, b) => b - a));
});

test("the change reaches full rank, where LoRA with as many parameters keeps its own", async () => {
  const [size, r] = [24, 6];
  const task = regression(
    toyModel([{ weight: draw(size, size), bias: draw(size).data }]),
    draw(64, size),
    draw(64, size),
  );
  const rankOf = async (type: string, config: object): Promise<{ rank: number; count: number }> => {
    const { engine, steps, adapted } = await tinyTraining(type, { ...config, targetModules: ["dense"] }, { task });
    await steps(0, 20);
    const { parameters } = await engine.state();
    await engine.close();
    const [plan] = adapted.plans;
    const tensors = Object.fromEntries(
      [...plan!.shared, ...plan!.parameters].map(({ name, role, shape }) => [
        role,
        { dims: shape, data: parameters[name]!.data as Float32Array },
      ]),
    );
    const delta = plan!.method.delta!(tensors, plan!.config, plan!.site, frozenOf({ weight: draw(size, size) }));
    const s = singularValues(matrix(size, size, (delta.weight as { add: Float32Array }).add));
    return {
      rank: s.filter((v) => v > 1e-4 * s[0]!).length,
      count: parameterCount(plan!.method, plan!.config, [plan!.site]),
    };
  };
  const ours = await rankOf("RANDLORA", { r, alpha: 24 });
  const other = await rankOf("LORA", { r: 3 });
  expect(ours.rank).toBeGreaterThan(0.9 * size);
  expect(other.rank).toBe(3);
  expect(ours.count).toBeLessThanOrEqual(other.count);
});

test.each([
  [{ sparse: true }, 3],
  [{ verySparse: true }, Math.sqrt(96)],
] as const)("sparse bases %j: frequencies and deviation", (option, q) => {
  const at = layer(96, 128, { r: 8, ...option });
  for (const role of ["A", "B"]) {
    const { data } = startOf(at)[role]!;
    const n = data.length;
    const levels = [...new Set(data)].sort((a, b) => a - b);
    expect(levels).toHaveLength(3);
    const variance = data.reduce((sum, v) => sum + v * v, 0) / n - (data.reduce((sum, v) => sum + v, 0) / n) ** 2;
    expect(Math.sqrt((variance * n) / (n - 1))).toBeCloseTo(1, 4);
    levels.forEach((level, k) => {
      const p = k === 1 ? 1 - 1 / q : 1 / (2 * q);
      const share = data.reduce((sum, v) => sum + (v === level ? 1 : 0), 0) / n;
      expect(Math.abs(share - p)).toBeLessThan(3 * Math.sqrt((p * (1 - p)) / n));
    });
  }
});

test("the backward pass reads one product as large as the weight, and no copy of A for every base", () => {
  for (const [inner, outer] of [
    [24, 32],
    [32, 24],
  ] as const) {
    const rows = 5;
    const [r, bases, small] = [4, 6, 24];
    const kept = keptByBackward(layer(inner, outer, { r }), rows);
    const sizes = kept.filter(({ shape }) => shape[0] !== rows).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(
      sizes.filter((size) => size >= r * bases * small && size !== outer * inner && size !== 32 * bases * r),
    ).toEqual([r * bases * small]);
  }
});

test("files of peft are read with and without copies of the bases under every module", async () => {
  const folder = join(fileURLToPath(new URL("../../../../parity/golden", import.meta.url)), "methods/randlora");
  const files = await readPeftFolder(folder);
  const shared = [...files.tensors].filter(([name]) => /randlora_[AB]$/.test(name));
  expect(shared.length).toBeGreaterThan(2);
  const once = new Map(
    [...files.tensors].filter(([name]) => !/randlora_[AB]$/.test(name) || name.split(".").length === 2),
  );
  expect(once.size).toBeLessThan(files.tensors.size);
  const [withCopies, without] = [fromPeft(files), fromPeft({ ...files, tensors: once })];
  expect(without.tensors).toEqual(withCopies.tensors);
  expect([...toPeft(withCopies).tensors.keys()].sort()).toEqual([...once.keys()].sort());
});
