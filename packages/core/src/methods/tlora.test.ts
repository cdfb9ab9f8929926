import { describe, expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { createBuilder } from "../graph/builder.ts";
import { identity, kron, type Matrix, matrix, matrixFrom, multiply, subtract } from "../linalg/matrix.ts";
import { largestDifference } from "../linalg/measure.ts";
import { svd } from "../linalg/svd.ts";
import { checkGradient, testRandom } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, type ByRole, type Method, parameterCount } from "./method.ts";
import { oft } from "./oft.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";
import { tlora } from "./tlora.ts";
import { factorsOf } from "./tlora-factors.ts";
import { gramSlices, identityDistance, orthogonalDistance, ringApply, ringKroneckerValue } from "./tlora-ring.ts";

const random = testRandom(5);
const draw = (dims: readonly number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const linear = (inFeatures: number, outFeatures: number): SiteShape => ({
  name: `${inFeatures}to${outFeatures}`,
  kind: "linear",
  inFeatures,
  outFeatures,
  weightShape: [outFeatures, inFeatures],
  hasBias: true,
});
const weightOf = ({ inFeatures, outFeatures }: SiteShape): Float32Array => draw([outFeatures, inFeatures]).data;

/** The change of weight `w` that tensors make. */
function changeOf(config: object, tensors: ByRole<AdapterTensor>, site: SiteShape, w: Float32Array): Matrix {
  const delta = tlora.delta!(tensors, tlora.config.parse(config), site, {
    weight: () => w.slice(),
    bias: () => new Float32Array(site.outFeatures),
  });
  return matrix(site.outFeatures, site.inFeatures, (delta.weight as { add: Float32Array }).add);
}

/** Makes T itself visible: a weight that is the identity, and the change that is T - Id. */
const transformOf = (cores: readonly AdapterTensor[], n: number): Matrix => {
  const config = { order: cores.length, transformRank: cores[0]!.dims[2], residual: "none" };
  const tensors = Object.fromEntries(cores.map((core, d) => [`transform${d}`, core]));
  const unit = Float32Array.from(identity(n).data);
  const change = changeOf(config, tensors, linear(n, n), unit);
  return matrixFrom(n, n, (i, j) => change.data[i * n + j]! + (i === j ? 1 : 0));
};

/** T[i, j] = trace(A^1[i_1, j_1] A^2[i_2, j_2] ...) by its definition, the first factor running fastest. */
function byDefinition(cores: readonly AdapterTensor[], n: number, rank: number): Matrix {
  return matrixFrom(n, n, (row, column) => {
    let [i, j, product] = [row, column, identity(rank)];
    for (const { dims, data } of cores) {
      const size = dims[0]!;
      const at = ((i % size) * size + (j % size)) * rank * rank;
      product = multiply(product, matrix(rank, rank, data.slice(at, at + rank * rank)));
      [i, j] = [Math.floor(i / size), Math.floor(j / size)];
    }
    return Array.from({ length: rank }, (_, r) => product.data[r * (rank + 1)]!).reduce((a, b) => a + b, 0);
  });
}

test.each([
  [[2, 3, 2], 2],
  [[3, 2], 3],
  [[2, 3, 2], 1],
  [[5], 2],
])("the transform of factors %j, rank %i, is its definition, in the graph too", async (sizes, rank) => {
  const n = sizes.reduce((a, b) => a * b, 1);
  const cores = sizes.map((size) => draw([size, size, rank, rank]));
  const expected = byDefinition(cores, n, rank);
  expect(largestDifference(transformOf(cores, n), expected)).toBeLessThan(1e-5);
  const g = createBuilder();
  const inputs = cores.map(({ dims }, d) => g.input(`core${d}`, "float32", dims));
  g.output(ringKroneckerValue(g, inputs, sizes, rank), "T");
  const feeds = Object.fromEntries(cores.map((core, d) => [`core${d}`, { type: "float32", ...core } as const]));
  const { T } = await runBuilder(g, feeds);
  expect(T!.dims).toEqual([n, n]);
  expect(largestDifference(matrix(n, n, T!.data as Float32Array), expected)).toBeLessThan(1e-5);
});

test.each([
  [[2, 3, 2], 2],
  [[3, 2], 3],
  [[5], 2],
  [[2, 2, 3], 1],
])(
  "core after core gives what the matrix of factors %j, rank %i, gives, with the same gradients",
  async (sizes, rank) => {
    const n = sizes.reduce((a, b) => a * b, 1);
    const cores = sizes.map((size) => ({ dims: [size, size, rank, rank] }));
    const check = { symbolic: [] as const, full: false };
    await checkGradient(
      (g, [x, ...given]) => ringApply(g, x!, given, sizes, rank),
      [{ dims: [2, 3, n] }, ...cores],
      check,
    );
    const g = createBuilder();
    const x = g.input("x", "float32", [2, 3, n]);
    const inputs = cores.map(({ dims }, d) => g.input(`core${d}`, "float32", dims));
    g.output(ringApply(g, x, inputs, sizes, rank), "chain");
    g.output(g.fusedMatMul(x, ringKroneckerValue(g, inputs, sizes, rank), { transB: true }), "matrix");
    const feeds = Object.fromEntries(
      [["x", draw([2, 3, n])] as const, ...cores.map(({ dims }, d) => [`core${d}`, draw(dims)] as const)].map(
        ([name, t]) => [name, { type: "float32", ...t } as const],
      ),
    );
    const { chain, matrix: whole } = await runBuilder(g, feeds);
    expect(chain!.dims).toEqual(whole!.dims);
    (chain!.data as Float32Array).forEach((v, i) => {
      expect(Math.abs(v - (whole!.data as Float32Array)[i]!)).toBeLessThan(1e-5 * 10);
    });
  },
);

test.each([1, 2, 3])("a new transform of rank %i changes nothing but by rounding, either way", async (rank) => {
  const weight = draw([8, 6]);
  const [x, dy] = [draw([3, 6]), draw([24]).data];
  const run = async (config: object) => {
    const at: OneSite = { method: tlora as unknown as Method, config: { order: 2, ...config }, weight, bias: null };
    return (await runOneSite(at, startOf(at), x, dy)).y;
  };
  const base = await run({ transformRank: 0, residual: "none" });
  for (const apply of ["chain", "matrix"]) {
    const y = await run({ transformRank: rank, residualRank: 2, apply });
    y.forEach((v, i) => {
      expect(Math.abs(v - base[i]!)).toBeLessThan(1e-6 * Math.max(...base.map(Math.abs)));
    });
  }
});

describe("limits", () => {
  test("rank 1 is a Kronecker product, the last core outermost", () => {
    const cores = [2, 3, 2].map((size) => draw([size, size, 1, 1]));
    const [a, b, c] = cores.map(({ dims, data }) => matrix(dims[0]!, dims[0]!, data));
    expect(largestDifference(transformOf(cores, 12), kron(c!, kron(b!, a!)))).toBeLessThan(1e-6);
  });
  test("diagonal cores scale columns", () => {
    const cores = [2, 3].map((size) => {
      const core = draw([size, size, 2, 2]);
      return { ...core, data: core.data.map((v, at) => (Math.floor(at / 4) % (size + 1) === 0 ? v : 0)) };
    });
    const t = transformOf(cores, 6);
    t.data.forEach((v, at) => {
      if (at % 7 !== 0) expect(v).toBe(0);
      else expect(Math.abs(v)).toBeGreaterThan(0);
    });
  });
  test("one core of rank 1 is a free matrix", () => {
    const core = draw([6, 6, 1, 1]);
    expect(largestDifference(transformOf([core], 6), matrix(6, 6, core.data))).toBeLessThan(1e-6);
  });
  test("no transform and a LoRA residual is LoRA, bit for bit", async () => {
    const site = linear(6, 8);
    const [A, B, x] = [draw([3, 6]), draw([8, 3]), draw([4, 6])];
    const w = weightOf(site);
    const own = { transformRank: 0, residual: "lora", residualRank: 3, scale: 2 };
    const reference = lora.delta!({ A, B }, lora.config.parse({ r: 3, alpha: 6 }), site, {
      weight: () => w,
      bias: () => w,
    });
    expect(Float32Array.from(changeOf(own, { A, B }, site, w).data)).toEqual(
      Float32Array.from((reference.weight as { add: Float32Array }).add),
    );
    const run = async (isLora: boolean): Promise<unknown> => {
      const g = createBuilder();
      const input = (name: string, { dims }: AdapterTensor) => g.input(name, "float32", dims);
      const values = { A: input("A", A), B: input("B", B) };
      const at = {
        x: input("x", x),
        y: g.input("y", "float32", [4, 8]),
        site,
        weight: () => expect.unreachable(),
        bias: () => null,
        rows: {},
        meanOverTokens: (v: never) => v,
        base: () => expect.unreachable(),
      };
      const y = isLora
        ? lora.forward(g, at, values, lora.config.parse({ r: 3, alpha: 6 }))
        : tlora.forward(g, at, values, tlora.config.parse(own));
      g.output(y, "out");
      const feeds = { A, B, x, y: { dims: [4, 8], data: w.slice(0, 32) } };
      const { out } = await runBuilder(
        g,
        Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, { type: "float32", ...t } as const])),
      );
      return out!.data;
    };
    expect(await run(false)).toEqual(await run(true));
  });
  test("the transform has full rank and no zeros, where blocks of the same size have zeros", () => {
    const site = linear(12, 12);
    const config = tlora.config.parse({ transformRank: 2, residual: "none" });
    const specs = Object.values(tlora.parameters(site, config, [site]));
    const cores = specs.map(({ shape, init }) => {
      const start = init({ shape, random: undefined as never, base: () => new Float32Array(0) });
      return { dims: shape, data: start.map((v) => v + 0.1 * (random() * 2 - 1)) };
    });
    const t = transformOf(cores, 12);
    expect(t.data.every((v) => v !== 0)).toBe(true);
    expect(svd(t).s.at(-1)).toBeGreaterThan(1e-3);
    const blocks = oft.config.parse({ r: 3, oftBlockSize: 0, useCayleyNeumann: false });
    const unit = Float32Array.from(identity(12).data);
    const R = { dims: [3, 6], data: draw([3, 6]).data };
    const turned = oft.delta!({ R }, blocks, site, { weight: () => unit, bias: () => unit });
    const changed = (turned.weight as { add: Float32Array }).add;
    expect([...changed].filter((v) => v === 0).length).toBeGreaterThanOrEqual(96);
  });
});

describe("regularisers", () => {
  test("T·Tᵀ is the ring of the cores G", async () => {
    const [sizes, rank] = [[2, 3], 2] as const;
    const cores = sizes.map((size) => draw([size, size, rank, rank]));
    const g = createBuilder();
    cores.forEach(({ dims }, d) => {
      const size = dims[0]!;
      const slices = gramSlices(g, g.input(`core${d}`, "float32", dims), size, rank);
      g.output(g.transpose(slices, [2, 3, 0, 1]), `gram${d}`);
    });
    const result = await runBuilder(
      g,
      Object.fromEntries(cores.map((core, d) => [`core${d}`, { type: "float32", ...core } as const])),
    );
    const grams = sizes
      .map((_, d) => result[`gram${d}`]!)
      .map(({ dims, data }) => ({ dims, data: data as Float32Array }));
    const t = byDefinition(cores, 6, rank);
    expect(largestDifference(byDefinition(grams, 6, rank * rank), multiply(t, t, { transB: true }))).toBeLessThan(1e-4);
  });
  test("both are zero at the start", async () => {
    for (const rank of [1, 2, 3]) {
      const site = linear(6, 6);
      const specs = tlora.parameters(site, tlora.config.parse({ transformRank: rank, order: 2, residual: "none" }), []);
      const g = createBuilder();
      const distances = Object.values(specs).flatMap(({ shape, init }) => {
        const start = init({ shape, random: undefined as never, base: () => new Float32Array(0) });
        const core = g.constant("float32", [...start], shape);
        return [identityDistance(g, core, shape[0]!, rank), orthogonalDistance(g, core, shape[0]!, rank)];
      });
      g.output(
        distances.reduce((a, b) => g.add(a, b)),
        "sum",
      );
      const { sum } = await runBuilder(g, {});
      expect((sum!.data as Float32Array)[0]).toBeLessThan(1e-3);
    }
  });
  test.each(["identity", "orthogonal"] as const)("%s: gradients, and null where it is not asked for", async (reg) => {
    const config = tlora.config.parse({ transformReg: reg, regWeight: 0.3, residual: "none", order: 2 });
    const site = linear(6, 6);
    const penalty = (values: Parameters<typeof tlora.forward>[2], g: Parameters<typeof tlora.forward>[0]) =>
      tlora.penalty!(g, [{ site: { site, config, names: {} }, values }], config)!;
    await checkGradient(
      (g, [a, b]) => penalty({ transform0: a!, transform1: b! }, g),
      [{ dims: [2, 2, 2, 2] }, { dims: [3, 3, 2, 2] }],
      { symbolic: [] },
    );
    const g = createBuilder();
    for (const none of [{ regWeight: 0 }, { transformReg: "none" as const }])
      expect(tlora.penalty!(g, [{ site: { site, config, names: {} }, values: {} }], { ...config, ...none })).toBeNull();
  });
});

test("factors: balanced, the paper's, given ones, and what does not fit", () => {
  expect(factorsOf(768, 3, "balanced")).toEqual([8, 8, 12]);
  expect(factorsOf(320, 3, "paper")).toEqual([4, 8, 10]);
  expect(factorsOf(320, 3, "balanced")).toEqual([5, 8, 8]);
  expect(factorsOf(320, 2, "paper")).toEqual([16, 20]);
  expect(factorsOf(7, 3, "balanced")).toEqual([1, 1, 7]);
  expect(factorsOf(12, 2, { "12": [6, 2] })).toEqual([6, 2]);
  expect(() => factorsOf(12, 2, { "12": [5, 2] })).toThrow(expect.objectContaining({ code: "SIZE_MISMATCH" }));
});

describe("published parameter counts, from shapes alone", () => {
  /** Query, key, value and output projections of self and cross attention. */
  const block = (width: number, context: number): SiteShape[] => [
    ...Array.from({ length: 6 }, () => linear(width, width)),
    ...Array.from({ length: 2 }, () => linear(context, width)),
  ];
  const blocks = (times: number, width: number, context: number): SiteShape[] =>
    Array.from({ length: times }, () => block(width, context)).flat();
  const sd15 = [...blocks(5, 320, 768), ...blocks(5, 640, 768), ...blocks(6, 1280, 768)];
  const sdxl = [...blocks(10, 640, 2048), ...blocks(60, 1280, 2048)];
  const countOf = (config: object, sites: SiteShape[]): number =>
    parameterCount(tlora, tlora.config.parse({ factors: "paper", ...config }), sites);

  test("Stable Diffusion 1.5 and SDXL", () => {
    expect(countOf({ residual: "none" }, sd15)).toBe(144_256);
    expect(countOf({ residual: "lora", residualRank: 4 }, sd15)).toBe(941_440);
    expect(countOf({}, sd15)).toBe(400_288);
    expect(countOf({ transformRank: 1, residualRank: 2 }, sdxl)).toBe(396_720);
    expect(parameterCount(lora, lora.config.parse({ r: 1 }), sdxl)).toBe(1_451_520);
  });
});

test("the weight is transformed on its input side", () => {
  const site = linear(6, 4);
  const cores = { transform0: draw([2, 2, 2, 2]), transform1: draw([3, 3, 2, 2]) };
  const w = weightOf(site);
  const change = changeOf({ order: 2, residual: "none" }, cores, site, w);
  const t = byDefinition([cores.transform0, cores.transform1], 6, 2);
  const base = matrix(4, 6, w);
  expect(largestDifference(change, subtract(multiply(base, t), base))).toBeLessThan(1e-5);
});
