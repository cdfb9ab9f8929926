import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { lora } from "../methods/lora.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { mergeAdapter } from "./merge.ts";
import { makeMixed, rowFeeds } from "./mixed.ts";
import { createMixedSet, makeMixedSwappable } from "./mixed-set.ts";
import { movedAdapter } from "./testing/moved-adapter.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const model = prepareModel(tinyModel());
const adapters = {
  lora: movedAdapter(model, "LORA", { r: 3, alpha: 5, targetModules: "all-linear", modulesToSave: ["classifier"] }, 1),
  norms: movedAdapter(model, "LN_TUNING", { targetModules: ["LayerNorm"] }, 2),
  rotated: movedAdapter(model, "OFT", { oftBlockSize: 4, r: 0, targetModules: ["value", "up"] }, 3),
  biases: movedAdapter(model, "BITFIT", {}, 4),
  tokens: movedAdapter(model, "LORA", { r: 2, targetModules: ["word_embeddings", "query"] }, 5),
};
const open = (m: Model): Promise<RuntimeSession> => onnxruntimeNode.open(encodeModel(m), { threads: 1 });
const idsOf = (data: readonly number[], tokens: number): RuntimeTensor => ({
  type: "int64",
  dims: [data.length / tokens, tokens],
  data: BigInt64Array.from(data, BigInt),
});

/** Rows of a batch, each run alone with the model that has its adapter merged. */
function alone(sessions: ReadonlyMap<string, RuntimeSession>, output: string) {
  return async (data: readonly number[], tokens: number, rows: readonly string[]): Promise<Float32Array[]> => {
    const results: Float32Array[] = [];
    for (const [i, name] of rows.entries()) {
      const feeds: Feeds = { input_ids: idsOf(data.slice(i * tokens, (i + 1) * tokens), tokens) };
      results.push((await sessions.get(name)!.run(feeds, [output]))[output]!.data as Float32Array);
    }
    return results;
  };
}

function expectRows(found: Float32Array, expected: readonly Float32Array[]): void {
  const size = found.length / expected.length;
  for (const [row, values] of expected.entries()) {
    const scale = Math.max(1, ...values.map(Math.abs));
    values.forEach((v, i) => {
      expect(Math.abs(found[row * size + i]! - v) / scale, `row ${row}`).toBeLessThan(2e-6);
    });
  }
}

const assignments = (names: readonly string[]) =>
  fc.tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 4 })).chain(([rows, tokens]) =>
    fc.record({
      tokens: fc.constant(tokens),
      ids: fc.array(fc.integer({ min: 0, max: 10 }), { minLength: rows * tokens, maxLength: rows * tokens }),
      rows: fc.array(fc.constantFrom(...names), { minLength: rows, maxLength: rows }),
    }),
  );

describe("another adapter for each row", () => {
  const names = [...Object.keys(adapters), "__base__"];
  const sessions = new Map<string, RuntimeSession>();
  beforeAll(async () => {
    for (const [name, adapter] of Object.entries(adapters))
      sessions.set(name, await open(mergeAdapter(model, adapter)));
    sessions.set("__base__", await open(model));
  });
  afterAll(async () => {
    for (const session of sessions.values()) await session.close();
  });

  test("adapters of different methods in one graph: each row as with its adapter alone", async () => {
    const mixed = makeMixed(model, adapters);
    const session = await open(mixed.model);
    await fc.assert(
      fc.asyncProperty(assignments(names), async ({ ids, tokens, rows }) => {
        for (const output of ["logits", "hidden"]) {
          const feeds = { input_ids: idsOf(ids, tokens), ...rowFeeds(mixed.names, rows) };
          const found = (await session.run(feeds, [output]))[output]!;
          expect(found.dims[0]).toBe(rows.length);
          expectRows(found.data as Float32Array, await alone(sessions, output)(ids, tokens, rows));
        }
      }),
      { numRuns: 25, seed: 1 },
    );
    await session.close();
  });

  test("adapters that are fed: more of them than places, ranks of their own", async () => {
    const config = { targetModules: "all-linear" as const };
    const mixed = makeMixedSwappable(model, { method: lora, config, places: 2 });
    const set = createMixedSet(mixed);
    const own = new Map<string, RuntimeSession>([["__base__", sessions.get("__base__")!]]);
    for (const r of [1, 2, 5]) {
      const adapter = movedAdapter(model, "LORA", { r, alpha: 2 * r + 1, ...config }, 10 + r);
      set.add(`rank ${r}`, adapter);
      own.set(`rank ${r}`, await open(mergeAdapter(model, adapter)));
    }
    const session = await open(mixed.model);
    await fc.assert(
      fc.asyncProperty(assignments([...own.keys()]), async ({ ids, tokens, rows }) => {
        fc.pre(new Set(rows.filter((name) => name !== "__base__")).size <= 2);
        const { logits } = await session.run({ input_ids: idsOf(ids, tokens), ...set.feeds(rows) }, ["logits"]);
        expectRows(logits!.data as Float32Array, await alone(own, "logits")(ids, tokens, rows));
      }),
      { numRuns: 25, seed: 2 },
    );
    expect(() => set.feeds(["rank 1", "rank 2", "rank 5"])).toThrow(
      expect.objectContaining({ code: "TOO_MANY_ADAPTERS" }),
    );
    expect(() => set.feeds(["rank 3"])).toThrow(expect.objectContaining({ code: "UNKNOWN_ADAPTER" }));
    set.delete("rank 5");
    expect(set.names).toEqual(["rank 1", "rank 2"]);
    for (const [name, s] of own) if (name !== "__base__") await s.close();
    await session.close();
  });

  test("what is refused", () => {
    const { lora: one } = adapters;
    expect(() => makeMixed(model, { __base__: one })).toThrow(expect.objectContaining({ code: "ADAPTER_NAME" }));
    expect(() => makeMixed(model, {})).toThrow(expect.objectContaining({ code: "ADAPTER_NAME" }));
    expect(() => rowFeeds(["a"], ["b"])).toThrow(expect.objectContaining({ code: "UNKNOWN_ADAPTER" }));
    const old: Model = { ...model, opsets: new Map([["", 12]]) };
    expect(() => makeMixed(old, { one })).toThrow(expect.objectContaining({ code: "OPSET" }));
  });
});

/** Two layers with names of their own on [tokens, batch, 4] (or, flattened, with the batch inside), read from [batch, tokens, 4]. */
function tokensFirst(isFlat: boolean): Model {
  const g = createBuilder(17);
  const random = testRandom(3);
  const weight = (name: string): Value =>
    g.initializer(
      name,
      tensorFrom(
        "float32",
        [4, 4],
        Array.from({ length: 16 }, () => random() * 2 - 1),
      ),
    );
  const x = g.input("x", "float32", ["batch", "tokens", 4]);
  const turned = g.transpose(x, [1, 0, 2]);
  let h = isFlat ? (g.op("Reshape", [turned, g.ints([-1, 4])])[0] as Value) : turned;
  for (const path of ["layer.0.dense", "layer.1.dense"]) {
    const name = `/${path.replace(/\.(?!\d)/g, "/")}/MatMul`;
    h = g.tanh(g.op("MatMul", [h, weight(`${path}.weight`)], {}, { name })[0] as Value);
  }
  g.output(isFlat ? h : g.transpose(h, [1, 0, 2]), "y");
  return toModel(g.finish({ name: "tokens first" }), 17);
}

describe("where the batch is not the first axis", () => {
  test("rows are cut along the axis that is the batch", async () => {
    const turned = prepareModel(tokensFirst(false));
    const [a, b] = [6, 7].map((seed) => movedAdapter(turned, "LORA", { r: 2, targetModules: ["dense"] }, seed));
    const mixed = makeMixed(turned, { a: a!, b: b! });
    const data = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i));
    const run = async (m: Model, x: Float32Array, more: Feeds = {}): Promise<Float32Array> => {
      const session = await open(m);
      const { y } = await session.run({ x: { type: "float32", dims: [x.length / 8, 2, 4], data: x }, ...more });
      await session.close();
      return y!.data as Float32Array;
    };
    const found = await run(mixed.model, data, rowFeeds(mixed.names, ["b", "__base__", "a"]));
    expectRows(found, [
      await run(mergeAdapter(turned, b!), data.slice(0, 8)),
      await run(turned, data.slice(8, 16)),
      await run(mergeAdapter(turned, a!), data.slice(16)),
    ]);
  });

  test("a first axis with the batch inside is refused, naming the module", () => {
    const turned = prepareModel(tokensFirst(true));
    const a = movedAdapter(turned, "LORA", { r: 2, targetModules: ["dense"] }, 6);
    expect(() => makeMixed(turned, { a })).toThrow(
      expect.objectContaining({ code: "ROWS_UNKNOWN", message: expect.stringContaining("layer.0.dense") }),
    );
  });
});
