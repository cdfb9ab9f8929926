import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import type { SiteShape } from "../adapters/site.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { createBuilder } from "../graph/builder.ts";
import { matrix, multiply } from "../linalg/matrix.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { type BottleneckConfig, bottleneck } from "./bottleneck.ts";
import { lora } from "./lora.ts";
import { parameterCount } from "./method.ts";
import { bertBranches, t5Branches, t5Share } from "./testing/branch-sites.ts";

const model = prepareModel(tinyModel());
const parse = (config: object): BottleneckConfig => bottleneck.config.parse(config);
const random = testRandom(4);
const values = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);

/** An adapted module's result for x [2, 3, in] and weight [out, in]. */
async function run(
  config: BottleneckConfig,
  tensors: Record<string, readonly [number[], Float32Array]>,
  x: Float32Array,
  weight: Float32Array,
) {
  const g = createBuilder();
  const [inFeatures, outFeatures] = [x.length / 6, weight.length / (x.length / 6)];
  const input = g.input("x", "float32", [2, 3, inFeatures]);
  const w = g.input("w", "float32", [outFeatures, inFeatures]);
  const base = (v: typeof input) => g.fusedMatMul(v, w, { transB: true });
  const site: SiteShape = {
    name: "m",
    kind: "linear",
    inFeatures,
    outFeatures,
    weightShape: [outFeatures, inFeatures],
    hasBias: false,
  };
  const given = Object.fromEntries(
    Object.entries(tensors).map(([role, [dims]]) => [role, g.input(role, "float32", dims)]),
  );
  const at = { x: input, y: base(input), site, weight: () => w, bias: () => null, base };
  g.output(bottleneck.forward(g, at as never, given, config), "y");
  const session = await openBuilder(g);
  const feed = (dims: readonly number[], data: Float32Array) => ({ type: "float32", dims, data }) as const;
  const { y } = await session.run({
    x: feed([2, 3, inFeatures], x),
    w: feed([outFeatures, inFeatures], weight),
    ...Object.fromEntries(Object.entries(tensors).map(([role, [dims, data]]) => [role, feed(dims, data)])),
  });
  await session.close();
  return y!.data as Float32Array;
}

describe("at a linear module", () => {
  const [x, weight] = [values(6 * 4), values(4 * 4)];
  const tensors = { down: [[3, 4], values(12)], up: [[4, 3], values(12)] } as const;
  const own = { down: [[3, 4], tensors.down[1]], up: [[4, 3], tensors.up[1]] } as Record<
    string,
    readonly [number[], Float32Array]
  >;

  test("parallel without non-linearity is LoRA with alpha / r = s", () => {
    const site: SiteShape = {
      name: "m",
      kind: "linear",
      inFeatures: 4,
      outFeatures: 4,
      weightShape: [4, 4],
      hasBias: false,
    };
    const [A, B] = [
      { dims: [3, 4], data: tensors.down[1] },
      { dims: [4, 3], data: tensors.up[1] },
    ];
    const frozen = { weight: () => weight, bias: () => new Float32Array(4) };
    const config = parse({ placement: "parallel", nonLinearity: "identity", scaling: 2 });
    const found = bottleneck.delta!({ down: A, up: B }, config, site, frozen).weight as { add: Float32Array };
    const expected = lora.delta!({ A, B }, lora.config.parse({ r: 3, alpha: 6 }), site, frozen).weight as {
      add: Float32Array;
    };
    expected.add.forEach((v, i) => {
      expect(found.add[i]).toBeCloseTo(v, 6);
    });
  });

  test("behind a square module it is the parallel form fed with the module's output", async () => {
    const behind = await run(parse({ placement: "output" }), own, x, weight);
    const identity = Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0));
    const y = multiply(
      matrix(6, 4, x),
      matrix(
        4,
        4,
        Float32Array.from({ length: 16 }, (_, i) => weight[(i % 4) * 4 + Math.floor(i / 4)]!),
      ),
    );
    const beside = await run(parse({ placement: "parallel" }), own, Float32Array.from(y.data), identity);
    behind.forEach((v, i) => {
      expect(v).toBeCloseTo(beside[i]!, 5);
    });
  });

  test("auto is in front of modules that widen and behind the others, LLaMA's table", () => {
    const shapeOf = (inFeatures: number, outFeatures: number) => {
      const site: SiteShape = {
        name: "m",
        kind: "linear",
        inFeatures,
        outFeatures,
        weightShape: [outFeatures, inFeatures],
        hasBias: false,
      };
      return bottleneck.parameters(site, parse({ bottleneckSize: 2 }), [site])["up"]!.shape;
    };
    expect(shapeOf(8, 12)).toEqual([8, 2]); // gate_proj, up_proj: before
    expect(shapeOf(12, 8)).toEqual([8, 2]); // down_proj: after
  });
});

describe("default targets", () => {
  const targets = (config: object): string[] =>
    injectAdapter(model, { method: bottleneck, config }).plans.map(({ site }) =>
      site.name.replace("encoder.layer.", ""),
    );
  const ends = (i: number) => [`${i}.attention.output.dense`, `${i}.output.dense`];
  test.each([
    [{ placement: "houlsby" }, [...ends(0), ...ends(1)]],
    [{ placement: "pfeiffer" }, ["0.output.dense", "1.output.dense"]],
    [{ placement: "pfeifferParallel" }, ["0.output.dense", "1.output.dense"]],
    [{ placement: "houlsby", mhAdapter: false }, ["0.output.dense", "1.output.dense"]],
    [{}, ["0.intermediate.dense", "0.output.dense", "1.intermediate.dense", "1.output.dense"]],
    [{ useAdapterP: true }, ["0.output.dense", "1.output.dense"]],
    [
      { placement: "parallel" },
      [0, 1].flatMap((i) => ["query", "key", "value"].map((n) => `${i}.attention.self.${n}`)),
    ],
  ])("%j", (config, expected) => expect(targets(config)).toEqual(expected));

  test("a module that ends no branch is refused", () => {
    const config = { placement: "houlsby" as const, targetModules: ["query", "output.dense"] };
    const { skipped } = injectAdapter(model, { method: bottleneck, config });
    expect(skipped.map((s) => s.site)).toEqual([0, 1].map((i) => `encoder.layer.${i}.attention.self.query`));
    expect(() => injectAdapter(model, { method: bottleneck, config: { ...config, targetModules: ["query"] } })).toThrow(
      expect.objectContaining({ code: "TARGETS_UNSUITABLE" }),
    );
  });
});

const countAt = (sites: readonly SiteShape[], fields: object): number => {
  const config = parse(fields);
  return parameterCount(
    bottleneck,
    config,
    sites.filter((site) => bottleneck.defaultTargets!(site, config)),
  );
};

test("published counts: BERT-base with reduction 16", () => {
  expect(countAt(bertBranches, { placement: "houlsby" })).toBe(1_789_056);
  expect(countAt(bertBranches, { placement: "pfeiffer" })).toBe(894_528);
  expect(countAt(bertBranches, { placement: "pfeifferParallel" })).toBe(12 * (2 * 768 * 384 + 384 + 768));
});

test("published shares: T5-base with reduction 32 and its 62 norms, in percent of 222,903,552", () => {
  const share = (placement: string): string =>
    t5Share(countAt(t5Branches, { placement, reductionFactor: 32, nonLinearity: "gelu_new" }));
  expect(share("houlsby")).toBe("0.832");
  expect(share("pfeiffer")).toBe("0.427");
});

test("published counts: LLaMA-7B with 256, and what a learned scale adds", () => {
  const linear = (inFeatures: number, outFeatures: number): SiteShape => ({
    name: "m",
    kind: "linear",
    inFeatures,
    outFeatures,
    weightShape: [outFeatures, inFeatures],
    hasBias: false,
  });
  const times = (n: number, site: SiteShape) => Array.from({ length: n }, () => site);
  const [up, down] = [linear(4096, 11_008), linear(11_008, 4096)];
  const count = (fields: object, sites: readonly SiteShape[]) => parameterCount(bottleneck, parse(fields), sites);
  expect(count({}, times(32, down))).toBe(67_108_864);
  expect(count({}, times(64, up))).toBe(134_217_728);
  expect(count({ placement: "parallel" }, [...times(32, up), ...times(32, down)])).toBe(247_463_936);
  expect(count({ scaling: "learned" }, [down]) - count({}, [down])).toBe(1);
});

test("starts: the defaults of both sources are none of them the identity, mam_adapter is", () => {
  const starts = (config: object) => {
    const adapted = injectAdapter(model, { method: bottleneck, config });
    return adapterOf(adapted, initialParameters(adapted, 1));
  };
  const std = (data: Float32Array): number => Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length);
  const { tensors } = starts({ bottleneckSize: 400 });
  for (const [, { data }] of tensors) expect(std(data)).toBeCloseTo(0.02, 2);
  const truncated = starts({ placement: "houlsby", bottleneckSize: 400, initWeights: "houlsby" }).tensors;
  const up = truncated.get("encoder.layer.0.output.dense.adapter_up.weight")!.data;
  expect(Math.max(...up.map(Math.abs))).toBeLessThanOrEqual(0.02 * (1 + 1e-6));
  expect(std(up)).toBeCloseTo(0.0088, 3); // of a normal distribution cut at two deviations: 0.8796
  expect(
    starts({ placement: "pfeifferParallel" })
      .tensors.get("encoder.layer.0.output.dense.adapter_up.weight")!
      .data.every((v) => v === 0),
  ).toBe(true);
});
