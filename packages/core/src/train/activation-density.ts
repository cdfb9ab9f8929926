import { z } from "zod";
import type { Adapter } from "../adapters/adapter.ts";
import type { ActivationSite } from "../adapters/find-activations.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { importGraph } from "../graph/import-graph.ts";
import { densityLoss, exactDensity } from "../losses/density.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { methodOf } from "../methods/registry.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { activationChoice, chosenActivations, maskFor } from "./density-penalty.ts";
import { type ForwardRunOptions, runForward, splitForwardOptions } from "./forward-runs.ts";
import { buildEvaluationProgram } from "./program.ts";

type Measure = "density" | "surrogate";
const outputOf = (measure: Measure, { activation }: ActivationSite): string => `${measure}:${activation}`;

const densityConfig = z.strictObject(activationChoice);

export interface ActivationDensityOptions extends Omit<ForwardRunOptions, "parameters"> {
  /** The adapter in effect; default none. */
  readonly adapter?: Adapter | null;
  /** As for {@link densityPenalty}: all feed-forward blocks, or a regular expression over the modules before the activations. */
  readonly sites?: string;
  readonly maskPadding?: boolean;
  readonly gated?: "activation" | "product";
  /** Of the surrogate that trainings lower, {@link densityLoss}; default 1e-7. */
  readonly eps?: number;
}

export interface ActivationDensity {
  /** Mean over layers, between 0 and 1. */
  readonly density: number;
  /** The surrogate, mean over layers: what the penalty adds to the loss at weight 1. */
  readonly surrogate: number;
  /** Mean over samples of each layer, with the path of the module before its activation. */
  readonly layers: readonly { readonly name: string; readonly density: number; readonly surrogate: number }[];
}

/**
 * The share of activations of feed-forward blocks that are not exactly zero (-0 is zero), mean over units, tokens, samples and layers:
 * what DEFT lowers and hardware that skips zeros gains from. One forward pass over the batches. A GELU in float32 is exactly zero
 * below about -5.54.
 * @param batches feeds of the model's inputs, samples along their first axis.
 * @throws PeftError NO_DATA, ACTIVATIONS_NOT_FOUND, MASK_MISSING, CONFIG_INVALID
 * @example
 * const { density } = await activationDensity(model, batches, { adapter, maskPadding: true });
 */
export async function activationDensity(
  original: Model,
  batches: readonly Feeds[],
  { adapter = null, eps = 1e-7, ...others }: ActivationDensityOptions = {},
): Promise<ActivationDensity> {
  const { run, rest } = splitForwardOptions(others);
  const options = parseConfig(densityConfig, rest, "the density metric");
  if (batches.length === 0) throw new PeftError("NO_DATA", "Expected at least one batch, received none.");
  const swappable = adapter
    ? makeSwappable(original, { method: methodOf(adapter.type), config: adapter.config })
    : null;
  const base = swappable?.base ?? prepareModel(original);
  const served = swappable?.model ?? base;
  const g = importGraph(served.graph, opsetOf(served));
  const activations = chosenActivations(base, options, swappable?.sites);
  const outputs: Record<string, Value> = {};
  for (const site of activations) {
    const mask = options.maskPadding ? maskFor(g, site) : null;
    const activation = g.value(site.activation);
    outputs[outputOf("density", site)] = exactDensity(g, activation, mask);
    outputs[outputOf("surrogate", site)] = densityLoss(g, [activation], { eps, mask });
  }
  const parameters = swappable ? adapterFeeds(swappable, adapter) : {};
  const program = buildEvaluationProgram(
    g,
    outputs,
    Object.keys(parameters).map((name) => g.value(name)),
  );
  const sums = activations.map(() => ({ density: 0, surrogate: 0 }));
  const counts = batches.map((feeds) => Object.values(feeds)[0]?.dims[0] ?? 1);
  let next = 0;
  const onOutputs = (found: Readonly<Record<string, { readonly data: unknown }>>): void => {
    const samples = counts[next++] ?? 1;
    activations.forEach((site, i) => {
      const sum = sums[i] as Record<Measure, number>;
      for (const measure of ["density", "surrogate"] as const) {
        const [value = Number.NaN] = (found[outputOf(measure, site)]?.data ?? []) as Float32Array;
        sum[measure] += samples * value;
      }
    });
  };
  await runForward(program, batches, onOutputs, { ...run, parameters });
  const samples = counts.reduce((a, b) => a + b, 0);
  const layers = activations.map(({ name }, i) => {
    const { density, surrogate } = sums[i] as Record<Measure, number>;
    return { name, density: density / samples, surrogate: surrogate / samples };
  });
  const mean = (measure: Measure): number => layers.reduce((sum, layer) => sum + layer[measure], 0) / layers.length;
  return { density: mean("density"), surrogate: mean("surrogate"), layers };
}
