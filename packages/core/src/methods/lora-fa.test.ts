import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { leavesInReverse } from "../graph/leaves-in-reverse.ts";
import { matrix, multiply } from "../linalg/matrix.ts";
import { runMemory } from "../memory/run-memory.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { createOptimizer } from "../optim/optimizer.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lora, loraScale } from "./lora.ts";
import { projection } from "./lora-fa.ts";

const [size, r] = [64, 2] as const;
type FreezeA = boolean | "projected";

/** x through a frozen square layer with LoRA, its trained tensors among `wanted`. */
function layer(g: Builder, x: Value, name: string, freezeA: FreezeA, wanted: Value[]): Value {
  const site = {
    name,
    kind: "linear",
    inFeatures: size,
    outFeatures: size,
    weightShape: [size, size],
    hasBias: false,
  } as const;
  const config = lora.config.parse({ r, freezeA });
  const random = testRandom(7);
  const numbers = Array.from({ length: size * size }, () => random() - 0.5);
  const w = g.initializer(`${name}.w`, tensorFrom("float32", [size, size], numbers));
  const base = (v: Value): Value => g.fusedMatMul(v, w, { transB: true });
  const values = Object.fromEntries(
    Object.entries(lora.parameters(site, config, [site])).map(([role, spec]) => {
      const value = g.input(`${name}.${role}`, "float32", spec.shape);
      if (spec.trainable !== false) wanted.push(value);
      return [role, value];
    }),
  );
  return lora.forward(
    g,
    { x, y: base(x), site, weight: () => w, bias: () => null, rows: {}, meanOverTokens: (v: Value) => v, base },
    values,
    config,
  );
}

describe("what the backward pass of a module reads", () => {
  const reads = (freezeA: FreezeA): Set<number | string> => {
    const g = createBuilder();
    const wanted: Value[] = [];
    const x = g.input("x", "float32", ["rows", size]);
    const y = layer(g, x, "layer", freezeA, wanted);
    const forward = new Set(g.nodes.flatMap((node) => node.outputs));
    const before = g.nodes.length;
    differentiate(g, [{ value: y, gradient: g.input("dY", "float32", ["rows", size]) }], [...wanted, x]);
    const read = g.nodes.slice(before).flatMap((node) => node.inputs);
    // Widths of the forward's activations that are kept, and x itself.
    const kept = read.filter((name) => forward.has(name) && name !== y.name).map((name) => g.value(name).shape.at(-1));
    return new Set([...kept.map((dim) => dim as number), ...read.filter((name) => name === "x")]);
  };

  test("LoRA keeps x, with A frozen only x·Aᵀ of width r is kept", () => {
    expect(reads(false)).toEqual(new Set(["x", r]));
    expect(reads(true)).toEqual(new Set([r]));
    expect(reads("projected")).toEqual(new Set([r]));
  });
});

test("a chain of layers holds fewer activations by one per layer", () => {
  const [layers, rows] = [6, 512];
  const peakOf = (freezeA: FreezeA): number => {
    const g = createBuilder();
    const wanted: Value[] = [];
    // The gradient of Erf reads what it is applied to: its result is kept for the next layer's A alone.
    let x = g.input("x", "float32", ["rows", size]);
    for (let i = 0; i < layers; i++) x = g.erf(layer(g, x, `layer.${i}`, freezeA, wanted));
    const gradients = differentiate(g, [{ value: g.reduceSum(x, [0, 1], false) }], wanted);
    gradients.forEach((d, i) => {
      g.output(d, `d:${i}`);
    });
    return runMemory(leavesInReverse(g.finish()), new Map([["rows", rows]])).peakBytes;
  };
  const activation = 4 * rows * size;
  expect(peakOf(false) - peakOf(true)).toBeGreaterThan((layers - 2) * activation);
});

interface Golden {
  readonly in: number;
  readonly out: number;
  readonly learning_rate: number;
  readonly runs: Readonly<
    Record<
      string,
      {
        readonly r: number;
        readonly lora_alpha: number;
        readonly use_rslora: boolean;
        readonly A: number[];
        readonly B: number[];
        readonly gradients: number[][];
        readonly values: number[][];
      }
    >
  >;
}
const golden = JSON.parse(
  readFileSync(new URL("../../../../parity/golden/lora-fa.json", import.meta.url), "utf8"),
) as Golden;

test.each(Object.entries(golden.runs))(
  "%s: AdamW on projected gradients makes the steps of peft's optimiser",
  (_, run) => {
    const config = lora.config.parse({
      r: run.r,
      alpha: run.lora_alpha,
      useRslora: run.use_rslora,
      freezeA: "projected",
    });
    const site = {
      name: "0",
      kind: "linear",
      inFeatures: golden.in,
      outFeatures: golden.out,
      weightShape: [golden.out, golden.in],
      hasBias: true,
    } as const;
    const [A, B] = [Float32Array.from(run.A), Float32Array.from(run.B)];
    const hooks = lora.hooks!({
      config,
      sites: [{ site, config, names: { A: "A", B: "B" } }],
      values: new Map([
        ["A", A],
        ["B", B],
      ]),
      totalSteps: run.gradients.length,
      seed: 0,
    });
    const optimizer = createOptimizer(
      { type: "adamw", learningRate: golden.learning_rate, eps: 1e-20 },
      new Map([["B", B]]),
    );
    run.gradients.forEach((numbers, step) => {
      const gradients = new Map([["B", Float32Array.from(numbers)]]);
      hooks.beforeUpdate!(step, gradients);
      optimizer.step(gradients);
      for (const [i, expected] of run.values[step]!.entries()) expect(B[i]).toBeCloseTo(expected, 5);
    });
  },
);

test("the projected step changes the weight by the part of the full gradient that A can express", () => {
  const random = testRandom(2);
  const draw = (rows: number, columns: number) =>
    matrix(
      rows,
      columns,
      Array.from({ length: rows * columns }, () => random() - 0.5),
    );
  const [a, full] = [draw(3, 7), draw(4, 7)];
  const scale = loraScale(lora.config.parse({ r: 3, alpha: 5 }));
  // g = s·G·Aᵀ is the gradient of B; s·(g·P)·A must be G projected onto the rows of A.
  const gradient = multiply(full, a, { transB: true }).data.map((v) => v * scale);
  const step = multiply(multiply(matrix(4, 3, gradient), projection(a, scale)), a).data.map((v) => v * scale);
  const rest = matrix(
    4,
    7,
    full.data.map((v, i) => v - step[i]!),
  );
  for (const v of multiply(rest, a, { transB: true }).data) expect(Math.abs(v)).toBeLessThan(1e-6);
});

test("convolutions can freeze A and are not projected", () => {
  const conv = {
    name: "c",
    kind: "conv",
    inFeatures: 3,
    outFeatures: 4,
    weightShape: [4, 3, 2, 2],
    hasBias: false,
    window: { strides: [1, 1], dilations: [1, 1], pads: [0, 0, 0, 0], groups: 1 },
  } as const;
  const parameters = lora.parameters(conv, lora.config.parse({ r: 2, freezeA: true }), [conv]);
  expect([parameters["A"]?.trainable, parameters["B"]?.trainable]).toEqual([false, undefined]);
  expect(() => lora.parameters(conv, lora.config.parse({ r: 2, freezeA: "projected" }), [conv])).toThrow(
    expect.objectContaining({ code: "CONFIG_INVALID" }),
  );
});
