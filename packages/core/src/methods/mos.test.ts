import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { adapterOf } from "../adapters/adapter.ts";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import type { SiteShape } from "../adapters/site.ts";
import { matrix } from "../linalg/matrix.ts";
import { singularValues } from "../linalg/svd.ts";
import { createRandom } from "../random/random.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, parameterCount } from "./method.ts";
import { mos } from "./mos.ts";
import { frozenOf, type OneSite, runOneSite } from "./testing/one-site.ts";
import { regression, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(31);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const numbers = (...values: number[]): AdapterTensor => ({ dims: [values.length], data: Float32Array.from(values) });
const sitesOf = (layers: number, inFeatures = 16, outFeatures = 16): SiteShape[] =>
  Array.from({ length: layers }, (_, i) => ({
    name: `layer.${i}.dense`,
    kind: "linear",
    inFeatures,
    outFeatures,
    weightShape: [outFeatures, inFeatures],
    hasBias: true,
  }));
const transposed = ({ dims: [rows = 0, columns = 0], data }: AdapterTensor): AdapterTensor => ({
  dims: [columns, rows],
  data: Float32Array.from({ length: data.length }, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!),
});

describe("routing", () => {
  /** Lists of all modules. */
  function listsOf(config: object, layers: number, seed: number): { A: number[]; B: number[] }[] {
    const sites = sitesOf(layers);
    return sites.map((site) => {
      const specs = mos.parameters(site, mos.config.parse(config), sites);
      const list = (role: string): number[] => {
        const { shape, init } = specs[role]!;
        return [
          ...init({ shape, random: createRandom(`${seed}:${site.name}:${role}`), base: () => new Float32Array(0) }),
        ];
      };
      return { A: list("indexA"), B: list("indexB") };
    });
  }
  test("lists have r l entries without repeats; private shards are used by their owner alone, public ones lie below (e - p) L l", () => {
    const sizes = fc
      .record({
        layers: fc.integer({ min: 1, max: 6 }),
        equivalentRank: fc.integer({ min: 1, max: 4 }),
        privateRank: fc.integer({ min: 0, max: 4 }),
        shardsPerVector: fc.constantFrom(1, 2, 4, 8),
        extra: fc.integer({ min: 0, max: 12 }),
        seed: fc.nat(),
      })
      .filter(({ equivalentRank: e, privateRank: p }) => p <= e)
      .map(({ extra, ...rest }) => {
        const { layers, equivalentRank: e, privateRank: p } = rest;
        return { ...rest, r: p === e ? e : Math.max(1, p + Math.min(extra, (e - p) * layers)) };
      });
    fc.assert(
      fc.property(sizes, ({ layers, seed, ...config }) => {
        const { r, equivalentRank: e, privateRank: p, shardsPerVector: l } = config;
        const publicShards = (e - p) * layers * l;
        listsOf(config, layers, seed).forEach(({ A, B }, layer) => {
          for (const list of [A, B]) {
            expect(list).toHaveLength(r * l);
            expect(new Set(list).size).toBe(r * l);
            const own = Array.from({ length: p * l }, (_, k) => publicShards + layer * p * l + k);
            expect(list.slice((r - p) * l)).toEqual(own);
            for (const shard of list.slice(0, (r - p) * l)) expect(shard >= 0 && shard < publicShards).toBe(true);
          }
        });
      }),
    );
  });
  test("lists of A and B differ, and those of modules; without dissociation there is one", () => {
    const config = { r: 6, equivalentRank: 4, privateRank: 1, shardsPerVector: 2 };
    const lists = listsOf(config, 4, 1);
    expect(new Set(lists.flatMap(({ A, B }) => [A.slice(0, 10).join(), B.slice(0, 10).join()])).size).toBe(8);
    const [site] = sitesOf(1);
    expect(
      Object.keys(mos.parameters(site!, mos.config.parse({ ...config, r: 4, dissociate: false }), [site!])),
    ).toEqual(["indexA"]);
  });
  test.each([
    [{ r: 8, equivalentRank: 2, privateRank: 1 }, /r - privateRank is 7, the public part of 2 modules holds 2/],
    [{ r: 3, equivalentRank: 2, privateRank: 2 }, /privateRank = equivalentRank = 2, r must be 2 too, received 3/],
    [{ r: 4, equivalentRank: 2, privateRank: 3 }, /privateRank 3 exceeds equivalentRank 2/],
    [{ r: 2, shardsPerVector: 5 }, /shardsPerVector 5 does not divide \[16, 16\]/],
  ])("%j is refused with the numbers", (config, message) => {
    const sites = sitesOf(2);
    expect(() => mos.parameters(sites[0]!, mos.config.parse(config), sites)).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringMatching(message) }),
    );
  });
  test("sizes do not change the number of parameters: LoRA's of rank e", () => {
    const sites = sitesOf(8, 16, 32);
    const expected = parameterCount(lora, lora.config.parse({ r: 2 }), sites);
    for (const config of [
      { r: 8, privateRank: 1, shardsPerVector: 4 },
      { r: 3, privateRank: 0, shardsPerVector: 1 },
      { r: 2, privateRank: 2, shardsPerVector: 16 },
    ])
      expect(parameterCount(mos, mos.config.parse({ equivalentRank: 2, ...config }), sites)).toBe(expected);
  });
  test("A starts within the bound of its full width, not of a shard's", () => {
    const sites = sitesOf(4, 64, 64);
    const { shape, init } = mos.shared!(sites, mos.config.parse({ shardsPerVector: 8 }))["A:dense:64x64"]!;
    const values = init({ shape, random: createRandom(1), base: () => new Float32Array(0) });
    const largest = Math.max(...values.map(Math.abs));
    expect(largest).toBeLessThanOrEqual(1 / 8);
    expect(largest).toBeGreaterThan(0.9 / 8);
  });
});

describe("assembly", () => {
  test("two shards a vector, rank 3: shards of a row stand side by side in the order of the list", () => {
    const pool = (side: string): AdapterTensor => ({
      dims: [6, 2],
      data: Float32Array.from({ length: 12 }, (_, i) => (side === "A" ? 1 : 100) * (i + 1)),
    });
    const tensors = {
      "A:dense:4x4": pool("A"),
      "B:dense:4x4": pool("B"),
      indexA: numbers(3, 0, 1, 5, 4, 2),
      indexB: numbers(0, 1, 2, 3, 5, 4),
    };
    // Shard s of pool A is (2 s + 1, 2 s + 2).
    const rows = [
      [7, 8, 1, 2],
      [3, 4, 11, 12],
      [9, 10, 5, 6],
    ];
    const columns = [
      [100, 200, 300, 400],
      [500, 600, 700, 800],
      [1100, 1200, 900, 1000],
    ];
    const [site] = sitesOf(1, 4, 4);
    const config = mos.config.parse({ r: 3, equivalentRank: 3, privateRank: 3, shardsPerVector: 2, alpha: 3 });
    const delta = mos.delta!(tensors, config, site!, frozenOf({ weight: draw(4, 4) }));
    const expected = Array.from({ length: 16 }, (_, at) =>
      rows.reduce((sum, row, k) => sum + columns[k]![Math.floor(at / 4)]! * row[at % 4]!, 0),
    );
    expect([...(delta.weight as { add: Float32Array }).add]).toEqual(expected);
  });
  test("every shard whole and private is LoRA of rank e bit for bit, forward and gradients; split ones are the same function", async () => {
    const [weight, A, B, x, dy] = [draw(8, 8), draw(3, 8), draw(8, 3), draw(5, 8), draw(40).data];
    const bias = draw(8).data;
    const reference = await runOneSite({ method: lora, config: { r: 3, alpha: 6 }, weight, bias }, { A, B }, x, dy);
    for (const l of [1, 2]) {
      const config = { r: 3, equivalentRank: 3, privateRank: 3, shardsPerVector: l, alpha: 6 };
      const at: OneSite = { method: mos as never, config, weight, bias };
      const list = numbers(...Array.from({ length: 3 * l }, (_, k) => k));
      const split = (t: AdapterTensor): AdapterTensor => ({ dims: [3 * l, 8 / l], data: t.data });
      const tensors = { "A:dense:8x8": split(A), "B:dense:8x8": split(transposed(B)), indexA: list, indexB: list };
      const found = await runOneSite(at, tensors, x, dy);
      expect(found.y).toEqual(reference.y);
      expect(found.dx).toEqual(reference.dx);
      expect(found.gradients["A:dense:8x8"]).toEqual(reference.gradients["A"]);
      expect(transposed({ dims: [3, 8], data: found.gradients["B:dense:8x8"]! }).data).toEqual(
        reference.gradients["B"],
      );
    }
  });
});

/** Four layers with one pool: 16 shards, some of which nobody reads. */
const own = { r: 3, equivalentRank: 2, privateRank: 1, shardsPerVector: 2, alpha: 6 };
const config = { ...own, targetModules: ["dense"] };
const layers = Array.from({ length: 4 }, () => ({ weight: draw(8, 8), bias: draw(8).data }));
const task = regression(toyModel(layers), draw(12, 8), draw(12, 8));
const [poolA, poolB] = ["A", "B"].map((side) => `base_model.mos_pool_${side}:dense:8x8`) as [string, string];

describe("training of shared pools", () => {
  test("a pool's gradient is the sum of its modules' gradients at their places, zero for shards that nobody reads", async () => {
    const rate = 0.5;
    const noise = testRandom(3);
    const start = (values: ReadonlyMap<string, Float32Array>): void => {
      for (const [name, data] of values) if (name.includes("pool")) data.set(data.map(() => noise() - 0.5));
    };
    const one = await tinyTraining("MOS", config, { task, start, optimizer: { type: "sgd", learningRate: rate } });
    const before = (await one.engine.state()).parameters;
    const values = (name: string): Float32Array => before[name]!.data as Float32Array;
    await one.steps(0, 1);
    const after = (await one.engine.state()).parameters;
    // The same modules as LoRA with factors of their own, put together here: the other way to compute it.
    const glued = (layer: number, side: string): Float32Array => {
      const pool = values(side === "A" ? poolA : poolB);
      const list = [...values(`layer.${layer}.dense.mos_index_${side}`)];
      return Float32Array.from(list.flatMap((shard) => [...pool.subarray(shard * 4, shard * 4 + 4)]));
    };
    const plain = await tinyTraining(
      "LORA",
      { r: 3, alpha: 6, targetModules: ["dense"] },
      {
        task,
        optimizer: { type: "sgd", learningRate: rate },
        start(factors) {
          for (let i = 0; i < 4; i++) {
            factors.get(`layer.${i}.dense.lora_A.weight`)!.set(glued(i, "A"));
            factors.get(`layer.${i}.dense.lora_B.weight`)!.set(transposed({ dims: [3, 8], data: glued(i, "B") }).data);
          }
        },
      },
    );
    const first = (await plain.engine.state()).parameters;
    await plain.steps(0, 1);
    const moved = (await plain.engine.state()).parameters;
    for (const side of ["A", "B"]) {
      const sums = new Float64Array(64);
      for (let i = 0; i < 4; i++) {
        const name = `layer.${i}.dense.lora_${side}.weight`;
        const change = (moved[name]!.data as Float32Array).map((v, k) => v - (first[name]!.data as Float32Array)[k]!);
        const rows = side === "A" ? change : transposed({ dims: [8, 3], data: change }).data;
        values(`layer.${i}.dense.mos_index_${side}`).forEach((shard, k) => {
          for (let j = 0; j < 4; j++) sums[shard * 4 + j]! += rows[k * 4 + j]!;
        });
      }
      const pool = side === "A" ? poolA : poolB;
      const found = (after[pool]!.data as Float32Array).map((v, k) => v - values(pool)[k]!);
      const used = new Set([0, 1, 2, 3].flatMap((i) => [...values(`layer.${i}.dense.mos_index_${side}`)]));
      found.forEach((v, k) => {
        expect(Math.abs(v - sums[k]!)).toBeLessThan(1e-6);
        if (!used.has(Math.floor(k / 4))) expect(v).toBe(0);
      });
    }
    await one.engine.close();
    await plain.engine.close();
  });

  test("unread shards never move under AdamW; every change has rank r above e, and no two are multiples of each other", async () => {
    const lists = [
      [0, 1, 2, 3],
      [1, 4, 2, 0],
      [5, 0, 3, 1],
      [2, 5, 4, 1],
    ]; // public shards 6 and 7 are read by nobody
    const { engine, steps, adapted } = await tinyTraining("MOS", config, {
      task,
      start(values) {
        for (let i = 0; i < 4; i++)
          for (const side of ["A", "B"]) {
            const list = values.get(`layer.${i}.dense.mos_index_${side}`)!;
            list.set(side === "A" ? lists[i]! : [...lists[i]!].reverse());
          }
      },
    });
    const before = (await engine.state()).parameters;
    await steps(0, 20);
    const { parameters } = await engine.state();
    await engine.close();
    for (const pool of [poolA, poolB])
      (parameters[pool]!.data as Float32Array).forEach((v, k) => {
        const stays = v === (before[pool]!.data as Float32Array)[k];
        expect(stays, `${pool} ${k}`).toBe(Math.floor(k / 4) === 6 || Math.floor(k / 4) === 7);
      });
    const adapter = adapterOf(
      adapted,
      new Map(Object.entries(parameters).map(([name, t]) => [name, t.data as Float32Array])),
    );
    const changes = sitesOf(4, 8, 8).map((site) => {
      const at = (name: string): AdapterTensor => adapter.tensors.get(name)!;
      const tensors = {
        "A:dense:8x8": at(poolA),
        "B:dense:8x8": at(poolB),
        indexA: at(`${site.name}.mos_index_A`),
        indexB: at(`${site.name}.mos_index_B`),
      };
      const { weight } = mos.delta!(tensors, mos.config.parse(own), site, frozenOf({ weight: draw(8, 8) }));
      return (weight as { add: Float32Array }).add;
    });
    for (const change of changes) {
      const s = singularValues(matrix(8, 8, change));
      expect(s[2]! / s[0]!).toBeGreaterThan(1e-3);
      expect(s[3]! / s[0]!).toBeLessThan(1e-6);
    }
    const cosine = (a: Float32Array, b: Float32Array): number => {
      const dot = (u: Float32Array, v: Float32Array): number => u.reduce((sum, w, i) => sum + w * v[i]!, 0);
      return Math.abs(dot(a, b)) / Math.sqrt(dot(a, a) * dot(b, b));
    };
    changes.forEach((a, i) => {
      for (const b of changes.slice(i + 1)) expect(cosine(a, b)).toBeLessThan(0.95);
    });
    // As LoRA, exactly: the assembled matrices.
    const { error, sites } = convertToLora(task.model, adapter, { rank: 3 });
    expect(error).toBeLessThan(1e-6);
    expect(sites.map((s) => s.rank)).toEqual([3, 3, 3, 3]);
  });
});
