import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { OptimizerInput } from "../optim/optimizer-config.ts";
import { drawRank } from "./dylora-hooks.ts";
import type { AdapterTensor } from "./method.ts";
import { methodOf } from "./registry.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";
import { regression, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

/** Layers and short trainings in PyTorch, written from the papers in another language: parity/generators/papers.py. */
interface GoldenTensor {
  readonly dims: number[];
  readonly data: number[];
}
interface GoldenLayer {
  readonly name: string;
  readonly config: Record<string, unknown>;
  readonly weight: GoldenTensor;
  readonly bias: number[] | null;
  readonly x: GoldenTensor;
  readonly dy: number[];
  readonly tensors: Record<string, GoldenTensor>;
  readonly y: number[];
  readonly dx: number[];
  readonly gradients: Record<string, number[]>;
}
interface GoldenTraining {
  readonly config: Record<string, unknown>;
  readonly seed: number;
  readonly ranks?: number[];
  readonly optimizer: OptimizerInput;
  readonly weights: GoldenTensor[];
  readonly biases: number[][];
  readonly x: GoldenTensor;
  readonly labels: GoldenTensor;
  readonly start: Record<string, GoldenTensor>;
  readonly losses: number[];
  readonly end: Record<string, number[]>;
}
interface Golden {
  readonly layers: GoldenLayer[];
  readonly trainings?: GoldenTraining[];
}

const folder = new URL("../../../../parity/golden/papers/", import.meta.url);
const files = readdirSync(folder).map((name) => name.replace(".json", ""));
const read = (name: string): Golden => JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8")) as Golden;
const tensorOf = ({ dims, data }: GoldenTensor): AdapterTensor => ({ dims, data: Float32Array.from(data) });

function close(found: ArrayLike<number>, expected: readonly number[], what: string): void {
  expect(found.length, what).toBe(expected.length);
  const scale = Math.max(1, ...expected.map(Math.abs));
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(found[i]! - expected[i]!) / scale, `${what}, entry ${i}`).toBeLessThan(1e-5);
}

test("there is a file for every method", () => {
  expect(files.length).toBeGreaterThanOrEqual(11);
});

describe.each(files)("%s", (file) => {
  const method = methodOf(file.toUpperCase());
  const { layers, trainings = [] } = read(file);

  test.each(layers.map((layer) => [layer.name, layer] as const))("layer: %s", async (_, layer) => {
    const bias = layer.bias ? Float32Array.from(layer.bias) : null;
    const others = method.type === "MOS" ? { others: ["layer.1.dense"] } : {};
    const at: OneSite = { method, config: layer.config, weight: tensorOf(layer.weight), bias, ...others };
    const given = Object.fromEntries(Object.entries(layer.tensors).map(([role, t]) => [role, tensorOf(t)]));
    // What the config and the base determine is made here.
    const made = startOf(at);
    const found = await runOneSite(at, { ...made, ...given }, tensorOf(layer.x), Float32Array.from(layer.dy));
    close(found.y, layer.y, "y");
    close(found.dx, layer.dx, "dx");
    expect(Object.keys(layer.gradients).length).toBeGreaterThan(0);
    for (const [role, gradient] of Object.entries(layer.gradients)) close(found.gradients[role]!, gradient, role);
  });

  test.each(trainings.map((t) => [JSON.stringify(t.config), t] as const))("training: %s", async (_, golden) => {
    const model = toyModel(golden.weights.map((weight, i) => ({ weight: tensorOf(weight), bias: golden.biases[i]! })));
    const { engine, steps, adapted } = await tinyTraining(
      method.type,
      { ...golden.config, targetModules: ["dense"] },
      {
        seed: golden.seed,
        optimizer: golden.optimizer,
        task: regression(model, tensorOf(golden.x), tensorOf(golden.labels)),
        start(values) {
          for (const [name, { data }] of Object.entries(golden.start)) values.get(name)!.set(data);
        },
      },
    );
    const config = adapted.config as never;
    if (golden.ranks)
      expect(golden.losses.map((__, step) => drawRank(config, golden.seed, step))).toEqual(golden.ranks);
    close(await steps(0, golden.losses.length), golden.losses, "losses");
    const { parameters } = await engine.state();
    for (const [name, end] of Object.entries(golden.end)) {
      close(parameters[name]!.data as Float32Array, end, name);
      expect(end).not.toEqual(golden.start[name]!.data);
    }
    await engine.close();
  });
});
