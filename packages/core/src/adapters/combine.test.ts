import { describe, expect, test } from "vitest";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { type Adapter, adaptedSites } from "./adapter.ts";
import { type Combination, type CombineOptions, combineAdapters } from "./combine.ts";
import { mergeAdapter } from "./merge.ts";
import { frozenSite } from "./operands.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { findSites } from "./sites.ts";
import { movedAdapter } from "./testing/moved-adapter.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const model = prepareModel(tinyModel());
const lora = (seed: number, config: Readonly<Record<string, unknown>> = {}): Adapter =>
  movedAdapter(model, "LORA", { r: 2, alpha: 3, targetModules: ["query", "value"], ...config }, seed);

/** Change of every weight by an adapter. */
function changes(adapter: Adapter): Map<string, Float32Array> {
  return new Map(
    adaptedSites(model.graph, findSites(model), adapter).map(({ site, method, config, tensors }) => {
      const weight = method.delta!(tensors, config, site, frozenSite(model.graph, site)).weight!;
      return [site.name, "add" in weight ? weight.add : weight.replace];
    }),
  );
}

function expectSum(found: Adapter, parts: readonly [Adapter, number][]): void {
  const all = changes(found);
  const known = parts.map(([adapter, weight]) => [changes(adapter), weight] as const);
  expect([...all.keys()].sort()).toEqual([...new Set(known.flatMap(([c]) => [...c.keys()]))].sort());
  for (const [site, data] of all) {
    data.forEach((v, i) => {
      expect(v).toBeCloseTo(
        known.reduce((sum, [c, weight]) => sum + weight * (c.get(site)?.[i] ?? 0), 0),
        5,
      );
    });
  }
}

describe.each(["cat", "svd"] as const)("%s", (combination) => {
  test("is the weighted sum, with ranks, scales and modules of each adapter's own, and negative weights", () => {
    const a = lora(1, { useRslora: true, rankPattern: { "layer.1.*query": 3 }, alphaPattern: { value: 7 } });
    const b = lora(2, { r: 1, targetModules: ["value", "up", "intermediate.dense", "word_embeddings"] });
    const parts = [
      { adapter: a, weight: 0.8 },
      { adapter: b, weight: -1.5 },
    ];
    const combined = combineAdapters(parts, { combination, ...(combination === "svd" ? { rank: 100 } : {}) });
    expectSum(combined, [
      [a, 0.8],
      [b, -1.5],
    ]);
    const ranks = Object.fromEntries(
      [...combined.tensors].filter(([n]) => n.endsWith("A.weight")).map(([n, t]) => [n, t.dims[0]]),
    );
    expect(ranks["encoder.layer.0.attention.self.value.lora_A.weight"]).toBe(3);
    expect(ranks["encoder.layer.1.attention.self.query.lora_A.weight"]).toBe(3);
    expect(ranks["encoder.layer.0.attention.self.query.lora_A.weight"]).toBe(2);
    // Ranks of single modules survive the file.
    expectSum(fromPeft(toPeft(combined)), [
      [a, 0.8],
      [b, -1.5],
    ]);
  });

  test("an adapter minus itself changes nothing", () => {
    const a = lora(3);
    const combined = combineAdapters(
      [
        { adapter: a, weight: 1 },
        { adapter: a, weight: -1 },
      ],
      { combination },
    );
    for (const data of changes(combined).values()) expect(Math.max(...data.map(Math.abs))).toBeLessThan(1e-6);
  });
});

test("a PiSSA adapter counts with its start subtracted", () => {
  const adapter = lora(4, { initLoraWeights: "pissa" });
  expectSum(combineAdapters([{ adapter, weight: 2 }], { combination: "cat" }), [[adapter, 2]]);
});

test("one head is kept, two are refused", () => {
  const [a, b] = [lora(5, { modulesToSave: ["classifier"] }), lora(6)];
  const parts = (second: Adapter) => [
    { adapter: a, weight: 1 },
    { adapter: second, weight: 1 },
  ];
  const combined = combineAdapters(parts(b));
  expect(combined.config.modulesToSave).toEqual(["classifier"]);
  const headOf = (m: Model): Float32Array => toFloat32Array(m.graph.initializers.get("classifier.weight")!);
  expect(headOf(mergeAdapter(model, combined))).toEqual(headOf(mergeAdapter(model, a)));
  expect(headOf(mergeAdapter(model, a))).not.toEqual(headOf(model));
  expect(() => combineAdapters(parts(a))).toThrow(expect.objectContaining({ code: "COMBINE_SAVED" }));
});

describe("DARE", () => {
  const big = lora(7, { r: 4, alpha: 4, targetModules: ["query", "intermediate.dense", "output.dense"] });
  const dare = (options: CombineOptions): Adapter => combineAdapters([{ adapter: big, weight: 1 }], options);

  test.each(["dare_linear", "dare_ties"] as const)("%s drops a share and rescales the rest", (combination) => {
    const density = 0.7;
    const dropped = dare({ combination, density, seed: 11 });
    let [kept, all] = [0, 0];
    for (const [name, { data }] of dropped.tensors) {
      data.forEach((v, i) => {
        all++;
        // With one adapter of weight 1 the election keeps every value.
        if (v === 0) return;
        kept++;
        expect(v).toBeCloseTo(big.tensors.get(name)!.data[i]! / density, 5);
      });
    }
    // Three standard deviations of a mean of so many draws.
    expect(Math.abs(kept / all - density)).toBeLessThan(3 * Math.sqrt((density * (1 - density)) / all));
  });

  test("a seed gives the same adapter, another one another", () => {
    const of = (seed: number) => dare({ combination: "dare_ties_svd", density: 0.5, seed }).tensors;
    expect(of(1)).toEqual(of(1));
    expect(of(2)).not.toEqual(of(1));
  });

  test("adapters drop entries of their own", () => {
    const parts = [
      { adapter: big, weight: 1 },
      { adapter: big, weight: -1 },
    ];
    const left = combineAdapters(parts, { combination: "dare_linear", density: 0.5 });
    const a = [...left.tensors].filter(([name]) => name.includes("lora_A")).flatMap(([, { data }]) => [...data]);
    expect(a.filter((v) => v !== 0).length / a.length).toBeGreaterThan(0.3);
  });

  test("with density 1 nothing is dropped", () => {
    const all = dare({ combination: "dare_linear_svd", density: 1 });
    expectSum(all, [[big, 1]]);
  });
});

test("TIES by hand: trimmed, elected, then the mean of those that agree", () => {
  const adapter = (a: readonly number[]): Adapter => ({
    type: "LORA",
    config: { ...lora(1).config, ...{ r: 1, alpha: 1 } } as Adapter["config"],
    tensors: new Map([
      ["x.lora_A.weight", { dims: [1, 4], data: Float32Array.from(a) }],
      ["x.lora_B.weight", { dims: [1, 1], data: Float32Array.of(1) }],
    ]),
  });
  const combined = combineAdapters(
    [
      { adapter: adapter([4, -3, 2, 0.5]), weight: 1 },
      { adapter: adapter([2, 5, -3, 0.5]), weight: 1 },
    ],
    { combination: "ties", density: 0.75 },
  );
  // Trimmed to [4, -3, 2, 0] and [2, 5, -3, 0]; signs of the sums [6, 2, -1, 0] are +, +, -, +.
  expect([...combined.tensors.get("x.lora_A.weight")!.data]).toEqual([3, 5, -3, 0]);
});

test.each<[string, CombineOptions]>([
  ["ties", { combination: "ties" }],
  ["ties", { combination: "ties", density: 0 }],
  ["dare_linear", { combination: "dare_linear", density: 1.2 }],
  ["density", { combination: "cat", density: 0.5 }],
  ["seed", { combination: "ties", density: 0.5, seed: 1 }],
  ["rank", { combination: "linear", rank: 4 }],
  ["rank", { combination: "svd", rank: 0 }],
  ["did you mean linear", { combination: "linaer" as Combination }],
])("options that do not go together are refused: %s", (word, options) => {
  expect(() => combineAdapters([{ adapter: lora(1), weight: 1 }], options)).toThrow(
    expect.objectContaining({ code: "COMBINE", message: expect.stringContaining(word) }),
  );
});

test("adapters that do not go together are refused", () => {
  const pair = (a: Adapter, b: Adapter, options?: CombineOptions) =>
    combineAdapters(
      [
        { adapter: a, weight: 1 },
        { adapter: b, weight: 1 },
      ],
      options,
    );
  const refused = (code: string, text: RegExp) =>
    expect.objectContaining({ code, message: expect.stringMatching(text) });
  expect(() => combineAdapters([])).toThrow(refused("COMBINE", /no adapters/));
  expect(() => combineAdapters([{ adapter: lora(1), weight: Number.NaN }])).toThrow(
    refused("COMBINE", /weight is NaN/),
  );
  expect(() => pair(lora(1), lora(2, { r: 3 }), { combination: "linear" })).toThrow(
    refused("COMBINE", /ranks 2 and 3/),
  );
  const narrow = lora(2);
  const name = "encoder.layer.0.attention.self.query.lora_A.weight";
  const cut = { dims: [2, 4], data: narrow.tensors.get(name)!.data.slice(0, 8) };
  expect(() => pair(lora(1), { ...narrow, tensors: new Map([...narrow.tensors, [name, cut]]) })).toThrow(
    refused("COMBINE", /query": shapes/),
  );
  expect(() => pair(lora(1), movedAdapter(model, "LOHA", { r: 2, targetModules: ["query"] }, 2))).toThrow(
    refused("NOT_LORA", /received a LOHA adapter/),
  );
  expect(() => pair(lora(1), lora(2, { useDora: true }))).toThrow(refused("NOT_LORA", /lora_magnitude_vector/));
  expect(() => pair(lora(1), lora(2, { loraBias: true }))).toThrow(refused("NOT_LORA", /lora_B.bias/));
});
