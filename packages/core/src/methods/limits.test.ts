import { describe, expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { adalora } from "./adalora.ts";
import { boft } from "./boft.ts";
import { c3a } from "./c3a.ts";
import { dylora } from "./dylora.ts";
import { fourierFt } from "./fourier-ft.ts";
import { gralora } from "./gralora.ts";
import { hira } from "./hira.ts";
import { hydra } from "./hydra.ts";
import { kronA } from "./kron-a.ts";
import { lokr } from "./lokr.ts";
import { lora } from "./lora.ts";
import type { AdapterTensor, FrozenSite, Method } from "./method.ts";
import { miss } from "./miss.ts";
import { mos } from "./mos.ts";
import { oft } from "./oft.ts";
import { paca } from "./paca.ts";
import { pvera } from "./pvera.ts";
import { randlora } from "./randlora.ts";
import { shira } from "./shira.ts";
import { startOf } from "./testing/one-site.ts";
import { tinyLora } from "./tinylora.ts";
import { unilora } from "./unilora.ts";
import { vera } from "./vera.ts";
import { waveFt } from "./waveft.ts";

/** Cases in which one method's formula must come out as another's, on a weight that is neither square nor a multiple of the rank. */
const site: SiteShape = {
  name: "layer.0.query",
  kind: "linear",
  inFeatures: 6,
  outFeatures: 8,
  weightShape: [8, 6],
  hasBias: true,
};
const random = testRandom(11);
const values = (count: number, scale = 1): Float32Array =>
  Float32Array.from({ length: count }, () => scale * (random() * 2 - 1));
const tensor = (dims: number[], data = values(dims.reduce((a, b) => a * b, 1))): AdapterTensor => ({ dims, data });
const [weight, bias] = [values(48), values(8)];
const frozen: FrozenSite = { weight: () => weight.slice(), bias: () => bias.slice() };
const ones: FrozenSite = { weight: () => new Float32Array(48).fill(1), bias: () => bias.slice() };

function changeOf<C extends object>(
  method: Method<C>,
  config: Partial<C>,
  tensors: Record<string, AdapterTensor>,
  at: FrozenSite = frozen,
): { weight: Float32Array; bias: Float32Array } {
  const parsed = (method.config as unknown as { parse(value: unknown): C }).parse(config);
  const delta = method.delta?.(tensors, parsed, site, at);
  const added = (change: unknown): Float32Array =>
    (change as { add: Float32Array } | undefined)?.add ?? new Float32Array(0);
  return { weight: added(delta?.weight), bias: added(delta?.bias) };
}
const near = (a: Float32Array, b: Float32Array, tolerance = 1e-5): void => {
  expect(a.length).toBe(b.length);
  const scale = Math.max(1e-6, ...b.map(Math.abs));
  a.forEach((v, i) => {
    expect(Math.abs(v - b[i]!) / scale).toBeLessThan(tolerance);
  });
};

const [A, B] = [tensor([3, 6]), tensor([8, 3])];
const plain = changeOf(lora, { r: 3, alpha: 6 }, { A, B }).weight; // scale 2

describe("equal to LoRA", () => {
  test("rsLoRA with alpha / sqrt(r)", () => {
    near(changeOf(lora, { r: 3, alpha: 2 * Math.sqrt(3), useRslora: true }, { A, B }).weight, plain);
  });
  test("AdaLoRA with E = 1 and alpha = 2 r0", () => {
    const E = tensor([3, 1], new Float32Array(3).fill(1));
    near(changeOf(adalora, { initR: 3, alpha: 6 }, { A, B, E }).weight, plain);
  });
  test("GraLoRA with one block", () => {
    const transposed = (t: AdapterTensor): AdapterTensor => {
      const [rows = 0, columns = 0] = t.dims;
      return tensor(
        [1, columns, rows],
        Float32Array.from({ length: t.data.length }, (_, i) => t.data[(i % rows) * columns + Math.floor(i / rows)]!),
      );
    };
    near(changeOf(gralora, { r: 3, alpha: 6, graloraK: 1 }, { A: transposed(A), B: transposed(B) }).weight, plain);
  });
  test("LoKr with w1 = [[1]] and a factored w2", () => {
    const w1 = tensor([1, 1], Float32Array.of(1));
    near(changeOf(lokr, { r: 3, alpha: 6, decomposeFactor: 1 }, { w1, w2a: B, w2b: A }).weight, plain);
  });
  test("VeRA with b and d inside the factors", () => {
    const [b, d] = [tensor([8]), tensor([3])];
    const left = tensor(
      [8, 3],
      B.data.map((v, i) => v * b.data[Math.floor(i / 3)]!),
    );
    const right = tensor(
      [3, 6],
      A.data.map((v, i) => v * d.data[Math.floor(i / 6)]!),
    );
    near(
      changeOf(vera, { r: 3 }, { A, B, b, d }).weight,
      changeOf(lora, { r: 3, alpha: 3 }, { A: right, B: left }).weight,
    );
  });
  test("PVeRA is VeRA of the halves that give the mean", () => {
    const [b, d] = [tensor([8]), tensor([6])];
    const both = tensor([6, 6], Float32Array.from([...A.data, ...values(18)]));
    const mean = tensor([3], d.data.slice(0, 3));
    near(changeOf(pvera, { r: 3 }, { A: both, B, b, d }).weight, changeOf(vera, { r: 3 }, { A, B, b, d: mean }).weight);
  });
  test("Uni-LoRA with a number for every value", () => {
    const config = { r: 3, thetaDLength: 3 * (6 + 8) };
    const start = startOf({ method: unilora, config, weight: tensor([8, 6]) });
    expect([...start["scaleA"]!.data, ...start["scaleB"]!.data].every((v) => v === 1)).toBe(true);
    const theta = tensor([42], new Float32Array(42));
    start["indexA"]!.data.forEach((at, i) => {
      theta.data[at] = A.data[i]!;
    });
    start["indexB"]!.data.forEach((at, i) => {
      theta.data[at] = B.data[i]!;
    });
    near(changeOf(unilora, config, { ...start, theta }).weight, changeOf(lora, { r: 3, alpha: 3 }, { A, B }).weight);
  });
  test("HiRA on a weight of ones", () => {
    near(changeOf(hira, { r: 3 }, { A, B }, ones).weight, changeOf(lora, { r: 3, alpha: 3 }, { A, B }).weight);
  });
  test("MiSS with the 0/1 matrix that sums blocks", () => {
    const D = tensor([4, 8]);
    const sums = tensor(
      [4, 6],
      Float32Array.from({ length: 24 }, (_, i) => ((i % 6) % 4 === Math.floor(i / 6) ? 1 : 0)),
    );
    const transposedD = tensor(
      [8, 4],
      Float32Array.from({ length: 32 }, (_, i) => D.data[(i % 4) * 8 + Math.floor(i / 4)]!),
    );
    near(
      changeOf(miss, { r: 4 }, { D }).weight,
      changeOf(lora, { r: 4, alpha: 4 }, { A: sums, B: transposedD }).weight,
    );
  });
  test("Hydra with the parallel branch alone; the sequential one multiplies W from the left", () => {
    const parallel = { parallelRank: 3, branches: "parallel", bias: false, scale: 2 } as const;
    near(changeOf(hydra, parallel, { parDown: A, parUp: B }).weight, plain);
    const [down, up] = [tensor([3, 8]), tensor([8, 3])];
    const { weight: w, bias: c } = changeOf(
      hydra,
      { branches: "sequential", bias: false },
      { seqDown: down, seqUp: up },
    );
    const product = (v: (k: number) => number, o: number): number => {
      let sum = 0;
      for (let r = 0; r < 3; r++) for (let k = 0; k < 8; k++) sum += up.data[o * 3 + r]! * down.data[r * 8 + k]! * v(k);
      return sum;
    };
    near(
      w,
      Float32Array.from({ length: 48 }, (_, i) => product((k) => weight[k * 6 + (i % 6)]!, Math.floor(i / 6))),
    );
    near(
      c,
      Float32Array.from({ length: 8 }, (_, o) => product((k) => bias[k]!, o)),
    );
  });
  test("DyLoRA at every rank is LoRA of the first components with alpha / b", () => {
    for (const rank of [1, 2, 3]) {
      const first = {
        A: tensor([rank, 6], A.data.slice(0, rank * 6)),
        B: tensor(
          [8, rank],
          B.data.filter((_, i) => i % 3 < rank),
        ),
      };
      near(
        changeOf(dylora, { rMax: 3, rank, alpha: 5 }, { A, B }).weight,
        changeOf(lora, { r: rank, alpha: 5 }, first).weight,
      );
    }
  });
  test("MoS in which every shard is private and whole", () => {
    const indices = tensor([3], Float32Array.of(0, 1, 2));
    const columns = tensor(
      [3, 8],
      Float32Array.from({ length: 24 }, (_, i) => B.data[(i % 8) * 3 + Math.floor(i / 8)]!),
    );
    const options = { r: 3, equivalentRank: 3, privateRank: 3, shardsPerVector: 1, alpha: 6 };
    near(
      changeOf(mos, options, { "A:query:8x6": A, "B:query:8x6": columns, indexA: indices, indexB: indices }).weight,
      plain,
    );
    // Two shards a vector: row k is shard 2k and then 2k + 1.
    const halves = tensor([6], Float32Array.of(0, 1, 2, 3, 4, 5));
    const split = (t: AdapterTensor): AdapterTensor => tensor([t.dims[0]! * 2, t.dims[1]! / 2], t.data);
    const tensors = { "A:query:8x6": split(A), "B:query:8x6": split(columns), indexA: halves, indexB: halves };
    near(changeOf(mos, { ...options, shardsPerVector: 2 }, tensors).weight, plain);
  });
  test("PaCA with one-hot rows of A", () => {
    const indices = tensor([2], Float32Array.of(4, 1));
    const Q = tensor([8, 2]);
    const P = tensor(
      [8, 2],
      Q.data.map((v, i) => v + weight[Math.floor(i / 2) * 6 + indices.data[i % 2]!]! / 3),
    );
    const hot = tensor(
      [2, 6],
      Float32Array.from({ length: 12 }, (_, i) => (i % 6 === indices.data[Math.floor(i / 6)] ? 1 : 0)),
    );
    near(
      changeOf(paca, { r: 2, alpha: 6 }, { P, indices }).weight,
      changeOf(lora, { r: 2, alpha: 6 }, { A: hot, B: Q }).weight,
    );
  });
});

describe("other limits", () => {
  test("OFT: the series for v and the exact form for -v differ by the fourth power of v", () => {
    const difference = (size: number): number => {
      const v = values(6, size);
      const series = changeOf(oft, { oftBlockSize: 3 }, { R: tensor([2, 3], v) }).weight;
      const exact = changeOf(
        oft,
        { oftBlockSize: 3, useCayleyNeumann: false },
        {
          R: tensor(
            [2, 3],
            v.map((x) => -x),
          ),
        },
      ).weight;
      return Math.max(...series.map((x, i) => Math.abs(x - exact[i]!)));
    };
    expect(difference(0.2)).toBeLessThan(0.02);
    expect(difference(0.02)).toBeLessThan(1e-6);
    expect(difference(0.6)).toBeGreaterThan(1e-3);
  });
  test("exact OFT and BOFT keep the norms of W's rows", () => {
    const norms = (change: Float32Array): number[] =>
      Array.from({ length: 8 }, (_, o) =>
        Math.hypot(...Array.from({ length: 6 }, (_, i) => weight[o * 6 + i]! + change[o * 6 + i]!)),
      );
    const before = norms(new Float32Array(48));
    const check = (change: Float32Array): void => {
      expect(Math.max(...change.map(Math.abs))).toBeGreaterThan(0.01);
      norms(change).forEach((n, o) => {
        expect(n).toBeCloseTo(before[o]!, 5);
      });
    };
    check(changeOf(oft, { r: 2, oftBlockSize: 0, useCayleyNeumann: false }, { R: tensor([2, 3]) }).weight);
    const s = tensor([8, 1], new Float32Array(8).fill(1));
    check(changeOf(boft, { boftBlockSize: 2 }, { R: tensor([1, 3, 2, 2]), s }).weight);
  });
  test("C3A with blocks of one entry is a dense change divided by the inputs", () => {
    const w = tensor([8, 6, 1]);
    near(
      changeOf(c3a, { blockSize: 1 }, { w }).weight,
      w.data.map((v) => v / 6),
    );
  });
  test("SHiRA with every position is a dense change", () => {
    const all = tensor([48]);
    const positions = tensor(
      [2, 48],
      Float32Array.from({ length: 96 }, (_, i) => (i < 48 ? Math.floor(i / 6) : (i - 48) % 6)),
    );
    near(changeOf(shira, { r: 1 }, { values: all, positions }).weight, all.data);
  });
  test("FourierFT at one frequency is a wave", () => {
    const c = tensor([48], new Float32Array(48));
    c.data[0] = 1;
    const change = changeOf(fourierFt, { nFrequency: 48, scaling: 48 }, { c }).weight;
    // A single coefficient of an inverse transform: all values are cosines of multiples of one angle, 1 at the origin.
    expect(change[0]).toBeCloseTo(1, 6);
    expect(Math.max(...change.map(Math.abs))).toBeLessThanOrEqual(1 + 1e-6);
  });
  test("WaveFT with every coefficient turns the energy of a dense change, and is one without synthesis", () => {
    const c = tensor([48]);
    const energy = (v: Float32Array): number => v.reduce((sum, a) => sum + a * a, 0);
    const all = { nFrequency: 48, scaling: 1 } as const;
    const haar = changeOf(waveFt, all, { c }).weight;
    expect(energy(haar)).toBeCloseTo(energy(c.data), 4);
    const dense = changeOf(waveFt, { ...all, useIdwt: false }, { c }).weight;
    expect([...dense].sort()).toEqual([...c.data].sort());
  });
  test("WaveFT's coefficient at one place is the product of two filters", () => {
    const c = tensor([48], new Float32Array(48).fill(0));
    const each = Array.from({ length: 48 }, (_, k) => {
      const one = tensor(
        [48],
        c.data.map((_, i) => (i === k ? 1 : 0)),
      );
      return changeOf(waveFt, { nFrequency: 48, scaling: 2 }, { c: one }).weight;
    });
    // Haar: every wave is four entries of ±1/2 in a block of two by two.
    for (const wave of each) expect([...wave].filter((v) => Math.abs(Math.abs(v) - 1) < 1e-6)).toHaveLength(4);
    const signs = (w: Float32Array): string =>
      [...w].flatMap((v) => (Math.abs(v) < 1e-6 ? [] : [v > 0 ? "+" : "-"])).join("");
    const kinds = each.map(signs);
    for (const kind of ["++++", "++--", "+-+-", "+--+"]) expect(kinds.filter((k) => k === kind)).toHaveLength(12);
  });
  test("WaveFT with longer filters gives peft's change", () => {
    // WaveFTLinear.get_delta_weight of peft 0.21.2: in 6, out 9, 54 coefficients (k % 7 - 3) / 10, scaling 2; every fifth entry.
    const expected = {
      db2: [
        0.48726, 0.429006, -0.094199, -0.26226, 0.143958, 0.36226, -0.197548, 0.170753, 0.516506, -0.140849, -0.331458,
      ],
      sym4: [
        -0.120886, 0.210762, -0.028728, -0.193962, -0.048435, -0.018171, -0.327599, -0.420213, -0.25626, 0.00579,
        -0.32564,
      ],
      coif1: [
        -0.037552, 0.226657, -0.212595, -0.294788, 0.167966, -0.127306, -0.604843, -0.222005, 0.211001, 0.077434,
        0.00576,
      ],
    } as const;
    const c = tensor(
      [54],
      Float32Array.from({ length: 54 }, (_, k) => ((k % 7) - 3) / 10),
    );
    const odd: SiteShape = { ...site, outFeatures: 9, weightShape: [9, 6] };
    for (const waveletFamily of ["db2", "sym4", "coif1"] as const) {
      const parsed = waveFt.config.parse({ nFrequency: 54, scaling: 2, waveletFamily });
      const { add } = waveFt.delta!({ c }, parsed, odd, frozen).weight as { add: Float32Array };
      near(
        add.filter((_, at) => at % 5 === 0),
        Float32Array.from(expected[waveletFamily]),
      );
    }
  });
  test("TinyLoRA with every unit matrix as P is a free core between the singular directions", () => {
    const [a, b, v] = [tensor([3, 6]), tensor([8, 3]), tensor([9])];
    const P = tensor(
      [9, 3, 3],
      Float32Array.from({ length: 81 }, (_, at) => (at % 10 === 0 ? 1 : 0)),
    );
    const group = tensor([1], Float32Array.of(1));
    const tensors = { A: a, B: b, P, group, v0: tensor([9]), v1: v };
    const core = tensor(
      [3, 6],
      Float32Array.from({ length: 18 }, (_, at) => {
        let sum = 0;
        for (let k = 0; k < 3; k++) sum += v.data[Math.floor(at / 6) * 3 + k]! * a.data[k * 6 + (at % 6)]!;
        return sum;
      }),
    );
    near(
      changeOf(tinyLora, { r: 3, u: 9 }, tensors).weight,
      changeOf(lora, { r: 3, alpha: 3 }, { A: core, B: b }).weight,
    );
  });
  test("RandLoRA with one base is B·diag(lambda)·A·diag(gamma)", () => {
    const [a, b, lambda, gamma] = [tensor([7, 1, 6]), tensor([8, 1, 7]), tensor([7, 1]), tensor([1, 6])];
    const change = changeOf(randlora, { r: 7, alpha: 7 }, { A: a, B: b, lambda, gamma }).weight;
    const expected = Float32Array.from({ length: 48 }, (_, at) => {
      let sum = 0;
      for (let k = 0; k < 7; k++)
        sum += b.data[Math.floor(at / 6) * 7 + k]! * lambda.data[k]! * a.data[k * 6 + (at % 6)]!;
      return sum * gamma.data[at % 6]!;
    });
    near(change, expected);
  });
  test("KronA's official layout is the paper's with its rows shuffled", () => {
    const [a, b] = [tensor([2, 3]), tensor([4, 2])];
    const paper = changeOf(kronA, { a1: 2, a2: 3, layout: "paper" }, { A: a, B: b }).weight;
    const official = changeOf(kronA, { a1: 2, a2: 3 }, { A: a, B: b }).weight;
    for (let j = 0; j < 2; j++)
      for (let i = 0; i < 4; i++) {
        const [from, to] = [(j * 4 + i) * 6, (i * 2 + j) * 6];
        expect(official.slice(to, to + 6)).toEqual(paper.slice(from, from + 6));
      }
    const entry = paper[(1 * 4 + 2) * 6 + 2 * 2 + 1]!;
    expect(entry).toBeCloseTo(a.data[1 * 3 + 2]! * b.data[2 * 2 + 1]!, 6);
  });
});
