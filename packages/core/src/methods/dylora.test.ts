import { describe, expect, test } from "vitest";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter, unmergeAdapter } from "../adapters/merge.ts";
import { toPeft } from "../adapters/peft-files.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { truncateDylora } from "../adapters/truncate-dylora.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { dylora } from "./dylora.ts";
import { drawRank } from "./dylora-hooks.ts";
import { lora } from "./lora.ts";
import type { AdapterTensor } from "./method.ts";
import { methodOf } from "./registry.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";
import { regression, type TinyOptions, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(21);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const parsed = (fields: object) => dylora.config.parse(fields);
/** All steps at one rank. */
const always = (rank: number, rMax: number): number[] =>
  Array.from({ length: rMax }, (_, k) => (k === rank - 1 ? 1 : 0));

/** Trains with B moved from zero, so that A has gradients too; both methods have the same names and start. */
async function run(type: string, config: object, steps: number, options: TinyOptions = {}) {
  const training = await tinyTraining(
    type,
    { ...config, targetModules: ["query", "intermediate.dense", "value"] },
    {
      start(values) {
        const noise = testRandom(6);
        for (const [name, data] of values) if (/lora_[AB]/.test(name)) data.set(data.map(() => noise() - 0.5));
      },
      ...options,
    },
  );
  const before = (await training.engine.state()).parameters;
  const losses = await training.steps(0, steps);
  const after = (await training.engine.state()).parameters;
  await training.engine.close();
  return { losses, before, after, adapted: training.adapted };
}
const tensors = (state: Readonly<Record<string, { data: unknown }>>): [string, Float32Array][] =>
  Object.entries(state).flatMap(([name, { data }]) => (/lora_[AB]/.test(name) ? [[name, data as Float32Array]] : []));
/** Components (from 0) of which any entry differs. */
function movedComponents(before: Float32Array, after: Float32Array, name: string, rMax: number): number[] {
  const width = before.length / rMax;
  const componentOf = (i: number): number => (name.includes("lora_A") ? Math.floor(i / width) : i % rMax);
  return [...new Set([...before.keys()].filter((i) => before[i] !== after[i]).map(componentOf))].sort();
}

describe("limits", () => {
  test.each(["frozen", "prefix"] as const)(
    "rMax 1 is LoRA of rank 1 with scale alpha, bit for bit (%s)",
    async (update) => {
      const found = await run("DYLORA", { rMax: 1, alpha: 4, update }, 10);
      const expected = await run("LORA", { r: 1, alpha: 4 }, 10);
      expect(found.losses).toEqual(expected.losses);
      expect(tensors(found.after)).toEqual(tensors(expected.after));
    },
  );
  test("always at rMax with prefix: LoRA's losses bit for bit", async () => {
    const found = await run("DYLORA", { rMax: 4, alpha: 8, update: "prefix", rankDistribution: always(4, 4) }, 12);
    const expected = await run("LORA", { r: 4, alpha: 8 }, 12);
    expect(found.losses).toEqual(expected.losses);
    expect(tensors(found.after)).toEqual(tensors(expected.after));
  });
  test("the start is the identity at every rank", async () => {
    for (const rank of [1, 2, 3, 4]) {
      const at: OneSite = {
        method: methodOf("DYLORA"),
        config: { rMax: 4, rank },
        weight: draw(6, 5),
        bias: draw(6).data,
      };
      const [x, dy] = [draw(3, 5), draw(18)];
      const none = await runOneSite(
        { ...at, method: lora as never, config: { r: 4 } },
        startOf({ ...at, method: lora as never, config: { r: 4 } }),
        x,
        dy.data,
      );
      expect((await runOneSite(at, startOf(at), x, dy.data)).y).toEqual(none.y);
    }
  });
});

describe("the factor", () => {
  test("is alpha / b over the first b terms, and equals the published square roots", async () => {
    const [A, B, x] = [draw(4, 5), draw(6, 4), draw(3, 5)];
    const weight: AdapterTensor = { dims: [6, 5], data: new Float32Array(30) };
    for (const rank of [1, 2, 3, 4]) {
      const at: OneSite = { method: methodOf("DYLORA"), config: { rMax: 4, alpha: 5, rank }, weight };
      const { y } = await runOneSite(at, { ...startOf(at), A, B }, x, new Float32Array(18));
      const root = Math.sqrt(4 / rank);
      y.forEach((v, i) => {
        const [row, o] = [Math.floor(i / 6), i % 6];
        let [sum, published] = [0, 0];
        for (let k = 0; k < rank; k++)
          for (let j = 0; j < 5; j++) {
            const term = [A.data[k * 5 + j]!, B.data[o * 4 + k]!] as const;
            sum += x.data[row * 5 + j]! * term[0] * term[1];
            published += x.data[row * 5 + j]! * (term[0] * root) * (term[1] * root);
          }
        expect(Math.abs(v - (5 / rank) * sum)).toBeLessThan(1e-6 * 10);
        expect(Math.abs((5 / rank) * sum - (5 / 4) * published)).toBeLessThan(1e-6);
      });
    }
  });
  test("LyCORIS trains with alpha / blocks and saves alpha / rank: at full rank they differ by the block size", async () => {
    const config = { rMax: 4, blockSize: 2, alpha: 6, rankDistribution: [0, 1], update: "prefix" };
    const official = await run("DYLORA", { ...config, alpha: 12 }, 3);
    const lycoris = await run("DYLORA", { ...config, convention: "lycoris" }, 3);
    expect(lycoris.losses).toEqual(official.losses);
    const at: OneSite = {
      method: methodOf("DYLORA"),
      config: { ...config, convention: "lycoris" },
      weight: draw(6, 5),
    };
    expect([...startOf(at)["mask"]!.data]).toEqual([1.5, 1.5, 1.5, 1.5]);
  });
});

describe("what learns", () => {
  test.each([
    ["frozen", 3, [2]],
    ["prefix", 3, [0, 1, 2]],
    ["frozen", 1, [0]],
  ] as const)("%s at rank %i: components %j of every A and B", async (update, rank, expected) => {
    const config = { rMax: 4, update, rankDistribution: always(rank, 4) };
    const { before, after } = await run("DYLORA", config, 1);
    const [first, last] = [tensors(before), tensors(after)];
    expect(first.length).toBe(12);
    first.forEach(([name, data], i) => {
      expect(movedComponents(data, last[i]![1], name, 4), name).toEqual(expected);
    });
  });

  test("gradients at a rank are those of the truncated loss by finite differences, zero above it", async () => {
    const at: OneSite = { method: methodOf("DYLORA"), config: { rMax: 4, alpha: 5, rank: 2 }, weight: draw(6, 5) };
    const given = { ...startOf(at), A: draw(4, 5), B: draw(6, 4) };
    const [x, dy] = [draw(3, 5), draw(18).data];
    const { gradients } = await runOneSite(at, given, x, dy);
    const lossAt = async (role: "A" | "B", i: number, h: number): Promise<number> => {
      const data = given[role].data.slice();
      data[i] = data[i]! + h;
      const { y } = await runOneSite(at, { ...given, [role]: { ...given[role], data } }, x, dy);
      return y.reduce((sum, v, k) => sum + v * dy[k]!, 0);
    };
    for (const [role, entries] of [
      ["A", [0, 7, 9, 12, 19]],
      ["B", [0, 1, 2, 3, 13]],
    ] as const)
      for (const i of entries) {
        const found = ((await lossAt(role, i, 0.05)) - (await lossAt(role, i, -0.05))) / 0.1;
        expect(Math.abs(found - gradients[role]![i]!), `${role} ${i}`).toBeLessThan(1e-4);
        const component = role === "A" ? Math.floor(i / 5) : i % 4;
        if (component >= 2) expect(gradients[role]![i]).toBe(0);
        else expect(gradients[role]![i]).not.toBe(0);
      }
  });

  test("with the optimiser's mask the others stay bit for bit; without it AdamW moves them by its decay alone", async () => {
    const config = { rMax: 4, rankDistribution: always(3, 4) };
    const optimizer = { type: "adamw", learningRate: 0.02, weightDecay: 0.1 } as const;
    const masked = await run("DYLORA", { ...config, optimizerMask: true }, 20, { optimizer });
    const plain = await run("DYLORA", config, 20, { optimizer });
    const starts = tensors(plain.before);
    tensors(masked.after).forEach(([name, data], i) => {
      expect(movedComponents(starts[i]![1], data, name, 4), name).toEqual([2]);
    });
    tensors(plain.after).forEach(([name, data], i) => {
      const start = starts[i]![1];
      const width = start.length / 4;
      start.forEach((v, k) => {
        const component = name.includes("lora_A") ? Math.floor(k / width) : k % 4;
        if (component === 2) return;
        let decayed = v;
        for (let step = 0; step < 20; step++) decayed = Math.fround(decayed * (1 - 0.02 * 0.1));
        expect(data[k]).toBe(decayed);
      });
    });
  });

  test("once drawn, a component goes on by momentum unless the mask holds it", async () => {
    const own = { rMax: 2, rankDistribution: "uniform" as const };
    const seed = [1, 2, 3, 4, 5, 6, 7, 8].find(
      (s) => drawRank(parsed(own), s, 0) === 1 && drawRank(parsed(own), s, 1) === 2,
    )!;
    for (const optimizerMask of [false, true]) {
      const training = await tinyTraining("DYLORA", { ...own, optimizerMask, targetModules: ["query"] }, { seed });
      await training.steps(0, 1);
      const name = training.adapted.parameters.find((p) => p.role === "B")!.name;
      const after1 = (await training.values(name)).slice();
      await training.steps(1, 2);
      expect(movedComponents(after1, await training.values(name), name, 2)).toEqual(optimizerMask ? [1] : [0, 1]);
      await training.engine.close();
    }
  });
});

describe("ranks", () => {
  const counted = (fields: object, draws: number): number[] => {
    const config = parsed(fields);
    const counts = new Array<number>(config.rMax).fill(0);
    for (let step = 0; step < draws; step++) counts[drawRank(config, 1, step) - 1]! += 1;
    return counts;
  };
  test("are uniform over 10,000 draws, and the same again", () => {
    const counts = counted({ rMax: 8 }, 10_000);
    // Chi-square with 7 degrees of freedom: 24.3 is passed once in a thousand sequences, and this one is fixed.
    expect(counts.reduce((sum, n) => sum + (n - 1250) ** 2 / 1250, 0)).toBeLessThan(24.3);
    expect(counted({ rMax: 8 }, 100)).toEqual(counted({ rMax: 8 }, 100));
  });
  test("are geometric, by weights, or in blocks", () => {
    expect(counted({ rMax: 8, rankDistribution: { geometric: 0.5 } }, 2000)[0]! / 2000).toBeCloseTo(0.5, 1);
    const weighted = counted({ rMax: 3, rankDistribution: [1, 0, 3] }, 2000);
    expect(weighted[1]).toBe(0);
    expect(weighted[2]! / 2000).toBeCloseTo(0.75, 1);
    const blocks = counted({ rMax: 8, blockSize: 4 }, 400);
    expect(blocks.flatMap((n, k) => (n > 0 ? [k + 1] : []))).toEqual([4, 8]);
  });
  test("are one for all modules and all micro-batches of a step, or one for each module", async () => {
    const [x, labels] = [draw(6, 5), draw(6, 3)];
    const layers = [5, 6, 6].map((width, i) => ({
      weight: draw([6, 6, 3][i]!, width),
      bias: draw([6, 6, 3][i]!).data,
    }));
    const task = regression(toyModel(layers), x, labels);
    const twice = { ...task, runs: [...task.runs, ...task.runs] };
    const seen = new Set<string>();
    for (let seed = 0; seed < 6; seed++)
      for (const perSite of [false, true]) {
        const config = { rMax: 4, perSite, targetModules: ["dense"] };
        const { engine, steps, adapted } = await tinyTraining("DYLORA", config, { task: twice, seed });
        const before = (await engine.state()).parameters;
        await steps(0, 1);
        const after = (await engine.state()).parameters;
        await engine.close();
        const moved = adapted.parameters
          .filter((p) => p.role === "B")
          .map(({ name }) =>
            movedComponents(before[name]!.data as Float32Array, after[name]!.data as Float32Array, name, 4),
          );
        for (const components of moved) expect(components).toHaveLength(1);
        const ranks = new Set(moved.map(String));
        if (!perSite) expect(ranks.size).toBe(1);
        else seen.add(String(ranks.size > 1));
      }
    expect(seen.has("true")).toBe(true);
  });
  test("that do not fit are refused", () => {
    const inject = (config: object) => () =>
      injectAdapter(prepareModel(tinyModel()), { method: dylora, config: { ...config, targetModules: ["query"] } });
    for (const config of [
      { rMax: 6, blockSize: 4 },
      { rMax: 8, blockSize: 4, rank: 6 },
      { rMax: 3, rankDistribution: [1, 1] },
      { rMax: 2, rankDistribution: [0, 0] },
    ])
      expect(inject(config)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  });
});

describe("truncated", () => {
  const model = prepareModel(tinyModel());
  const config = {
    rMax: 4,
    alpha: 6,
    targetModules: ["query", "intermediate.dense", "value"],
    modulesToSave: ["classifier"],
  };
  const adapter = movedAdapter(model, "DYLORA", config, 4);
  const ids = { type: "int64", dims: [2, 3], data: BigInt64Array.from([1, 2, 3, 4, 5, 6], BigInt) } as const;
  const logitsOf = async (m: Model, feeds: Feeds = {}): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
    const { logits } = await session.run({ input_ids: ids, ...feeds }, ["logits"]);
    await session.close();
    return logits!.data as Float32Array;
  };
  const near = (a: Float32Array, b: Float32Array): void =>
    a.forEach((v, i) => {
      expect(Math.abs(v - b[i]!)).toBeLessThan(1e-6 * Math.max(1, ...b.map(Math.abs)));
    });

  test("to rank b it is a LoRA file with the same logits; merging at b and unmerging gives the base", async () => {
    const base = await logitsOf(model);
    const seen: Float32Array[] = [];
    for (const rank of [1, 2, 3, 4]) {
      const own = { ...adapter, config: { ...adapter.config, rank } };
      const cut = truncateDylora(adapter, rank);
      expect(toPeft(cut).config).toMatchObject({ peft_type: "LORA", r: rank, lora_alpha: 6 });
      const merged = mergeAdapter(model, own);
      seen.push(await logitsOf(merged));
      near(await logitsOf(mergeAdapter(model, cut)), seen.at(-1)!);
      near(await logitsOf(unmergeAdapter(merged, own, model)), base);
    }
    seen.slice(1).forEach((logits, k) => {
      expect(logits).not.toEqual(seen[k]);
    });
  });
  test("cuts of all ranks are served by one session of LoRA, by feeding", async () => {
    const swappable = makeSwappable(model, {
      method: lora,
      config: { r: 4, targetModules: ["query", "intermediate.dense", "value"], modulesToSave: ["classifier"] },
    });
    const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
    for (const rank of [1, 3]) {
      const cut = truncateDylora(adapter, rank);
      const { logits } = await session.run({ input_ids: ids, ...adapterFeeds(swappable, cut) }, ["logits"]);
      const merged = await logitsOf(mergeAdapter(model, cut));
      (logits!.data as Float32Array).forEach((v, i) => {
        expect(Math.abs(v - merged[i]!)).toBeLessThan(1e-5);
      });
    }
    await session.close();
  });
  test("ranks that it does not have, and other adapters, are refused", () => {
    for (const rank of [0, 5, 1.5])
      expect(() => truncateDylora(adapter, rank)).toThrow(expect.objectContaining({ code: "LORA_SIZE" }));
    const other = movedAdapter(model, "LORA", { r: 2, targetModules: ["query"] }, 1);
    expect(() => truncateDylora(other, 1)).toThrow(expect.objectContaining({ code: "METHOD_MISMATCH" }));
  });
});
