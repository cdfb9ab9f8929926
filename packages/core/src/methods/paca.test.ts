import { describe, expect, test } from "vitest";
import { adapterOf } from "../adapters/adapter.ts";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import { leavesInReverse } from "../graph/leaves-in-reverse.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { runMemory } from "../memory/run-memory.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lora } from "./lora.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { paca } from "./paca.ts";
import { forwardAt, keptByBackward, type OneSite, runOneSite, specsOf, startOf } from "./testing/one-site.ts";
import { regression, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(51);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const numbers = (...values: number[]): AdapterTensor => ({ dims: [values.length], data: Float32Array.from(values) });
const forms = ["delta", "split", "inPlace"] as const;
const weight = draw(7, 5);
const bias = draw(7).data;
const layer = (config: object, more: Partial<OneSite> = {}): OneSite => ({
  method: paca as unknown as Method,
  config: { ...config },
  weight,
  bias,
  ...more,
});
const near = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-5): void => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++)
    expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(tolerance * Math.max(1, Math.abs(b[i]!)));
};

describe("start and forms", () => {
  test("the start is the base: exactly for factors that are powers of two", async () => {
    const [x, dy] = [draw(3, 5), draw(21).data];
    const frozen = layer({ r: 2 }, { method: lora as unknown as Method });
    const { y: base } = await runOneSite(frozen, startOf(frozen), x, dy);
    for (const [alpha, exact] of [
      [2, true],
      [4, true],
      [8, true],
      [3, false],
    ] as const) {
      const at = layer({ r: 2, alpha });
      const { y } = await runOneSite(at, startOf(at), x, dy);
      if (exact) expect(y).toEqual(base);
      else near(y, base, 1e-6);
    }
  });
  test.each([[[4, 5]], [[2, 3, 5]], [[2, 2, 3, 5]]])(
    "the three forms agree in output, dx and dP for x %j",
    async (dims) => {
      const [x, dy] = [draw(...dims), draw((dims.reduce((a, b) => a * b, 1) / 5) * 7).data];
      for (const c of [bias, null]) {
        const tensors = { P: draw(7, 2), indices: numbers(4, 1) };
        const [delta, ...others] = await Promise.all(
          forms.map((form) =>
            runOneSite(
              layer({ r: 2, alpha: 6, form }, { bias: c }),
              { ...startOf(layer({ r: 2 })), ...tensors },
              x,
              dy,
            ),
          ),
        );
        for (const found of others) {
          near(found.y, delta!.y);
          near(found.dx, delta!.dx);
          near(found.gradients["P"]!, delta!.gradients["P"]!);
        }
      }
    },
  );
  test.each(forms)("%s: gradients of P and x by finite differences", async (form) => {
    const at = layer({ r: 2, alpha: 6, form });
    const given = { ...startOf(at), P: draw(7, 2), indices: numbers(3, 0) };
    const [x, dy] = [draw(3, 5), draw(21).data];
    const { gradients, dx } = await runOneSite(at, given, x, dy);
    const shifted = ({ dims, data }: AdapterTensor, i: number, h: number): AdapterTensor => ({
      dims,
      data: data.map((v, k) => (k === i ? v + h : v)),
    });
    const sum = (y: Float32Array): number => y.reduce((s, v, i) => s + v * dy[i]!, 0);
    for (const i of [0, 5, 13]) {
      const by = async (h: number) => sum((await runOneSite(at, { ...given, P: shifted(given.P, i, h) }, x, dy)).y);
      near([((await by(0.1)) - (await by(-0.1))) / 0.2], [gradients["P"]![i]!], 1e-4);
      const byX = async (h: number) => sum((await runOneSite(at, given, shifted(x, i, h), dy)).y);
      near([((await byX(0.1)) - (await byX(-0.1))) / 0.2], [dx[i]!], 1e-4);
    }
  });
  test("columns by norm, and given ones; what does not fit is refused", () => {
    const norms = Array.from({ length: 5 }, (_, i) =>
      Math.hypot(...Array.from({ length: 7 }, (__, o) => weight.data[o * 5 + i]!)),
    );
    const largest = [0, 1, 2, 3, 4].sort((a, b) => norms[b]! - norms[a]!).slice(0, 2);
    expect([...startOf(layer({ r: 2, selection: "weightNorm" }))["indices"]!.data]).toEqual(largest);
    expect([...startOf(layer({ r: 2, selection: [4, 0] }))["indices"]!.data]).toEqual([4, 0]);
    const drawn = [1, 2, 3, 4, 5, 6].map((seed) => startOf(layer({ r: 2 }), seed)["indices"]!.data.join());
    expect(new Set(drawn).size).toBeGreaterThan(1);
    for (const selection of [[4], [4, 4], [4, 5]])
      expect(() => startOf(layer({ r: 2, selection }))).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  });
});

const layers = [
  { weight: draw(6, 5), bias: draw(6).data },
  { weight: draw(3, 6), bias: draw(3).data },
];
const task = regression(toyModel(layers), draw(10, 5), draw(10, 3));
const columnsOf = (w: AdapterTensor, indices: ArrayLike<number>): number[] =>
  Array.from(
    { length: w.dims[0]! * indices.length },
    (_, i) => w.data[Math.floor(i / indices.length) * w.dims[1]! + indices[i % indices.length]!]!,
  );

describe("training", () => {
  test.each([
    { type: "sgd", learningRate: 0.05 },
    { type: "adamw", learningRate: 0.01 },
  ] as const)("is LoRA with one-hot rows of A: the same 50 steps of Q = P - P0 (%j)", async (optimizer) => {
    const config = { r: 2, alpha: 6, targetModules: ["dense"] };
    const ours = await tinyTraining("PACA", config, { task, optimizer });
    const start = (await ours.engine.state()).parameters;
    const dataOf = (state: typeof start, name: string): Float32Array => state[name]!.data as Float32Array;
    const twin = await tinyTraining(
      "LORA",
      { ...config, freezeA: true },
      {
        task,
        optimizer,
        start(values) {
          for (const i of [0, 1]) {
            const a = values.get(`layer.${i}.dense.lora_A.weight`)!.fill(0);
            const indices = dataOf(start, `layer.${i}.dense.paca_indices`);
            indices.forEach((column, k) => {
              a[k * layers[i]!.weight.dims[1]! + column] = 1;
            });
          }
        },
      },
    );
    const [found, expected] = [await ours.steps(0, 50), await twin.steps(0, 50)];
    near(found, expected);
    expect(found.at(-1)).toBeLessThan(found[0]! * 0.9);
    const [end, other] = [(await ours.engine.state()).parameters, (await twin.engine.state()).parameters];
    for (const i of [0, 1]) {
      const p = `layer.${i}.dense.paca_w`;
      near(
        dataOf(end, p).map((v, k) => v - dataOf(start, p)[k]!),
        dataOf(other, `layer.${i}.dense.lora_B.weight`),
      );
    }
    await ours.engine.close();
    await twin.engine.close();
  });

  test("with all columns it is a trained weight: SGD with factor 1", async () => {
    const optimizer = { type: "sgd", learningRate: 0.1 } as const;
    const target = { targetModules: ["layer.0.dense"] };
    const ours = await tinyTraining("PACA", { r: 5, alpha: 5, ...target }, { task, optimizer });
    const full = await tinyTraining("FULL", target, { task, optimizer });
    const indices = await ours.values("layer.0.dense.paca_indices");
    // A fully trained module trains its bias too: one step at a time from the same weights.
    const before = await full.values("layer.0.dense.weight");
    await ours.steps(0, 1);
    await full.steps(0, 1);
    const after = await full.values("layer.0.dense.weight");
    const p = await ours.values("layer.0.dense.paca_w");
    near(p, columnsOf({ dims: [6, 5], data: after }, indices));
    expect(after).not.toEqual(before);
    await ours.engine.close();
    await full.engine.close();
  });

  test.each(forms)(
    "%s: other columns stay bit for bit, r out numbers differ, and what is merged right after a step is what the step made",
    async (form) => {
      const { engine, steps, adapted } = await tinyTraining(
        "PACA",
        { r: 2, alpha: 4, form, targetModules: ["dense"] },
        { task },
      );
      await steps(0, 5);
      const { parameters } = await engine.state();
      const values = new Map(Object.entries(parameters).map(([name, t]) => [name, t.data as Float32Array]));
      const merged = mergeAdapter(task.model, adapterOf(adapted, values));
      for (const i of [0, 1]) {
        const name = `layer.${i}.dense.weight`;
        const [before, after] = [task.model, merged].map((m) => toFloat32Array(m.graph.initializers.get(name)!));
        const [rows = 0, width = 0] = layers[i]!.weight.dims;
        const chosen = values.get(`layer.${i}.dense.paca_indices`)!;
        const changed = [...before!.keys()].filter((k) => before![k] !== after![k]);
        expect(new Set(changed.map((k) => k % width))).toEqual(new Set(chosen));
        expect(changed).toHaveLength(rows * 2);
        near(
          columnsOf({ dims: [rows, width], data: after! }, chosen),
          values.get(`layer.${i}.dense.paca_w`)!.map((v) => 2 * v),
        );
      }
      const at = layer({ r: 2, alpha: 4, form }, { weight: layers[0]!.weight, bias: layers[0]!.bias });
      const tensors = Object.fromEntries(
        [
          ["P", "paca_w"],
          ["indices", "paca_indices"],
          ["norms", "paca_norms"],
        ].map(([role, key]) => {
          const data = values.get(`layer.0.dense.${key}`)!;
          return [role, { dims: role === "P" ? [6, 2] : [2], data }];
        }),
      );
      const x = draw(2, 5);
      const { y } = await runOneSite(at, tensors, x, new Float32Array(12));
      const w = toFloat32Array(merged.graph.initializers.get("layer.0.dense.weight")!);
      near(
        y,
        Float32Array.from({ length: 12 }, (_, k) =>
          x.data
            .slice(Math.floor(k / 6) * 5, Math.floor(k / 6) * 5 + 5)
            .reduce((s, v, i) => s + v * w[(k % 6) * 5 + i]!, layers[0]!.bias[k % 6]!),
        ),
      );
      await engine.close();
    },
  );
});

describe("cost", () => {
  test.each(["delta", "inPlace"] as const)("%s: of the input the backward pass reads r features, not all", (form) => {
    const at = layer({ r: 2, form }, { weight: draw(48, 64), bias: null });
    const wide = keptByBackward(at, 5).filter(({ shape }) => shape[0] === 5);
    expect(wide.map(({ shape }) => shape[1])).toEqual([2]);
    const loraAt = layer({ r: 2 }, { method: lora as unknown as Method, weight: draw(48, 64), bias: null });
    expect(keptByBackward(loraAt, 5).map(({ name }) => name)).toContain("x");
  });

  test("the peak of eight layers lies below LoRA's of as many parameters by most of their inputs", () => {
    const [size, rows, count] = [64, 512, 8];
    const peakOf = (method: Method, config: object): number => {
      const g = createBuilder();
      const wanted: Value[] = [];
      let x = g.input("x", "float32", ["rows", size]);
      const w = draw(size, size);
      for (let i = 0; i < count; i++) {
        const at = layer(config, { method, weight: w, bias: null, name: `layer.${i}` });
        const values = Object.fromEntries(
          Object.entries(specsOf(at)).map(([role, { shape, trainable }]) => {
            const value = g.input(`${i}:${role}`, "float32", shape);
            if (trainable !== false) wanted.push(value);
            return [role, value];
          }),
        );
        const own = g.initializer(`${i}:w`, tensorFrom("float32", w.dims, [...w.data]));
        // The gradient of Erf reads what it is applied to: its result is kept for what the next layer trains alone.
        x = g.erf(forwardAt(g, at, { x, weight: own, bias: null }, values));
      }
      differentiate(g, [{ value: g.reduceSum(x, [0, 1], false) }], wanted).forEach((d, i) => {
        g.output(d, `d:${i}`);
      });
      return runMemory(leavesInReverse(g.finish()), new Map([["rows", rows]])).peakBytes;
    };
    const saved = peakOf(lora as unknown as Method, { r: 2 }) - peakOf(paca as unknown as Method, { r: 4 });
    expect(saved).toBeGreaterThan((count - 2) * 4 * rows * (size - 4));
  });
});

describe("files", () => {
  const model = prepareModel(tinyModel());
  const adapter = movedAdapter(model, "PACA", { r: 3, alpha: 6, targetModules: ["query", "intermediate.dense"] }, 3);
  test("another base model is refused; a file of the fork, without norms, is taken", () => {
    const back = fromPeft(toPeft(adapter));
    expect(() => mergeAdapter(prepareModel(tinyModel(4)), back)).toThrow(
      expect.objectContaining({ code: "BASE_MISMATCH" }),
    );
    const fork = { ...back, tensors: new Map([...back.tensors].filter(([name]) => !name.endsWith("norms"))) };
    const weights = (a: typeof back): unknown =>
      [...mergeAdapter(model, a).graph.initializers.values()].flatMap((t) =>
        t.type === "float32" ? [toFloat32Array(t)] : [],
      );
    expect(weights(fork)).toEqual(weights(back));
  });
  test("as LoRA it is exact at rank r", () => {
    const { error, sites } = convertToLora(model, adapter, { explainedVariance: 1 });
    expect(error).toBeLessThan(1e-6);
    expect(sites.every(({ rank }) => rank === 3)).toBe(true);
  });
  test("LLaMA-2-7B: r 16 has 21,757,952 parameters", () => {
    const site = (name: string, inFeatures: number, outFeatures: number) => ({
      ...{
        name,
        kind: "linear" as const,
        inFeatures,
        outFeatures,
        weightShape: [outFeatures, inFeatures],
        hasBias: false,
      },
    });
    const sites = Array.from({ length: 32 }, (_, i) => [
      ...["q", "k", "v", "o"].map((n) => site(`${i}.${n}`, 4096, 4096)),
      ...["gate", "up"].map((n) => site(`${i}.${n}`, 4096, 11008)),
      site(`${i}.down`, 11008, 4096),
    ]).flat();
    expect(parameterCount(paca, paca.config.parse({ r: 16 }), sites)).toBe(21_757_952);
  });
});
