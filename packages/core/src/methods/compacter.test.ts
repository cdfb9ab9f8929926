import { describe, expect, test } from "vitest";
import { injectAdapter } from "../adapters/inject.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { createBuilder } from "../graph/builder.ts";
import { matrix, multiply } from "../linalg/matrix.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { bottleneck } from "./bottleneck.ts";
import { type CompacterConfig, compacter } from "./compacter.ts";
import { parameterCount } from "./method.ts";
import { phmMatrix, phmProduct } from "./phm.ts";
import { bertBranches, branch, t5Branches, t5Share } from "./testing/branch-sites.ts";

const parse = (config: object): CompacterConfig => compacter.config.parse(config);
const random = testRandom(6);
const values = (dims: readonly number[]) => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() - 0.5),
});
const site = (width: number) => branch("m", width, "feedForward");

describe("products", () => {
  test.each([
    ["A in R: a wide input", 4, 16, 2, 1],
    ["A in L: a wide output", 4, 2, 16, 1],
    ["H: a rank that saves nothing", 2, 3, 3, 6],
    ["rank 2, odd sizes", 3, 5, 1, 2],
  ])("%s", async (_, n, p, o, r) => {
    const [rule, left, right] = [values([n, n, n]), values([n, p, r]), values([n, r, o])];
    const x = values([2, 3, n * p]);
    const g = createBuilder();
    const input = (name: string, { dims }: { dims: readonly number[] }) => g.input(name, "float32", dims);
    const symbolic = g.input("x", "float32", ["batch", "tokens", n * p]);
    const weight = { left: input("left", left), right: input("right", right) };
    g.output(phmProduct(g, symbolic, input("rule", rule), weight), "y");
    const session = await openBuilder(g);
    const feed = (v: { dims: readonly number[]; data: Float32Array }) => ({ type: "float32", ...v }) as const;
    const { y } = await session.run({ x: feed(x), rule: feed(rule), left: feed(left), right: feed(right) });
    await session.close();
    const expected = multiply(matrix(6, n * p, x.data), phmMatrix(rule, { left, right }));
    expect(y!.dims).toEqual([2, 3, n * o]);
    (y!.data as Float32Array).forEach((v, i) => {
      expect(v).toBeCloseTo(expected.data[i]!, 5);
    });
  });

  test("at the paper's sizes no value has the size of a projection", () => {
    const g = createBuilder();
    const v = g.input("x", "float32", ["rows", 768]);
    const input = (name: string, dims: readonly number[]) => g.input(name, "float32", dims);
    const down = { left: input("dl", [4, 192, 1]), right: input("dr", [4, 1, 6]) };
    const up = { left: input("ul", [4, 6, 1]), right: input("ur", [4, 1, 192]) };
    const rule = input("rule", [4, 4, 4]);
    g.output(phmProduct(g, phmProduct(g, v, rule, down), rule, up), "y");
    const sizes = g.nodes.flatMap((node) => node.outputs.map((name) => g.value(name).shape));
    const fixed = sizes.filter((shape) => shape.every((d) => typeof d === "number")).map((s) => s.map(Number));
    expect(Math.max(...fixed.map((shape) => shape.reduce((a, b) => a * b, 1)))).toBeLessThanOrEqual(768);
  });
});

test("with n = 1 and A = 1 it is a bottleneck adapter of that rank", () => {
  const shared = { placement: "houlsby", reductionFactor: 4, nonLinearity: "identity" } as const;
  const config = parse({ ...shared, phmDim: 1, factorizedPhmW: false });
  const tensors = {
    rule: { dims: [1, 1, 1], data: Float32Array.of(1) },
    down: values([1, 8, 2]),
    up: values([1, 2, 8]),
  };
  const biases = { downBias: values([2]), upBias: values([8]) };
  const flip = ({ dims: [, rows = 0, columns = 0], data }: { dims: readonly number[]; data: Float32Array }) => ({
    dims: [columns, rows],
    data: Float32Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!),
  });
  const frozen = { weight: () => values([8, 8]).data, bias: () => new Float32Array(8).fill(0.5) };
  const fixed = frozen.weight();
  const at = { ...frozen, weight: () => fixed };
  const found = compacter.delta!({ ...tensors, ...biases }, config, site(8), at);
  const plain = { down: flip(tensors.down), up: flip(tensors.up), ...biases };
  expect(found).toEqual(bottleneck.delta!(plain, bottleneck.config.parse(shared), site(8), at));
});

const countAt = (fields: object, sites: typeof t5Branches): number => {
  const config = parse(fields);
  const chosen = sites.filter((s) => compacter.defaultTargets!(s, config));
  return parameterCount(compacter, config, chosen);
};

test("published shares of T5-base, in percent", () => {
  expect(t5Share(countAt({}, t5Branches))).toBe("0.073"); // Compacter
  expect(t5Share(countAt({ placement: "pfeiffer" }, t5Branches))).toBe("0.047"); // Compacter++
  const phm = { factorizedPhmW: false, sharedPhmRule: false, phmDim: 12 };
  expect(t5Share(countAt(phm, t5Branches))).toBe("0.179"); // PHM-Adapter
});

test("counts at BERT-base: 2 n r (d/n + b/n) + b + d a module, and n cubed once", () => {
  expect(countAt({}, bertBranches)).toBe(24 * (2 * (768 + 24) + 24 + 768) + 64);
  expect(countAt({ learnPhm: false }, bertBranches)).toBe(24 * (2 * (768 + 24) + 24 + 768));
  expect(countAt({ sharedWPhm: true, phmBias: false }, bertBranches)).toBe(2 * (768 + 24) + 64);
});

test("sizes that n does not divide, and widths that cannot share, are refused", () => {
  const model = prepareModel(tinyModel());
  const inject = (fields: object) => () => injectAdapter(model, { method: compacter, config: fields });
  expect(inject({ phmDim: 4 })).toThrow(expect.objectContaining({ code: "SIZE_MISMATCH" })); // a bottleneck of 1
  expect(inject({ phmDim: 3, reductionFactor: 1 })).toThrow(expect.objectContaining({ code: "SIZE_MISMATCH" }));
  const shared = () =>
    compacter.shared!([site(8), site(16)], parse({ phmDim: 2, reductionFactor: 2, sharedWPhm: true }));
  expect(shared).toThrow(expect.objectContaining({ code: "SIZE_MISMATCH" }));
});
