import { z } from "zod";
import type { Adapter } from "../adapters/adapter.ts";
import type { ActivationSite } from "../adapters/find-activations.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { importGraph } from "../graph/import-graph.ts";
import { exactDensity } from "../losses/density.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { methodOf } from "../methods/registry.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { activationChoice, chosenActivations, maskFor } from "./density-penalty.ts";
import { type ForwardRunOptions, runForward } from "./forward-runs.ts";
import { buildEvaluationProgram } from "./program.ts";

const outputOf = ({ activation }: ActivationSite): string => `density:${activation}`;

const densityConfig = z.strictObject(activationChoice);

export interface ActivationDensityOptions extends Omit<ForwardRunOptions, "parameters"> {
  /** The adapter in effect; default none. */
  readonly adapter?: Adapter | null;
  /** As for {@link densityPenalty}: all feed-forward blocks, or a regular expression over the modules before the activations. */
  readonly sites?: string;
  readonly maskPadding?: boolean;
  readonly gated?: "activation" | "product";
}

export interface ActivationDensity {
  /** Mean over layers, between 0 and 1. */
  readonly density: number;
  /** Mean over samples of each layer, with the path of the module before its activation. */
  readonly layers: readonly { readonly name: string; readonly density: number }[];
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
  { adapter = null, isolation, threads, ...choice }: ActivationDensityOptions = {},
): Promise<ActivationDensity> {
  const options = parseConfig(densityConfig, choice, "the density metric");
  if (batches.length === 0) throw new PeftError("NO_DATA", "Expected at least one batch, received none.");
  const swappable = adapter
    ? makeSwappable(original, { method: methodOf(adapter.type), config: adapter.config })
    : null;
  const base = swappable?.base ?? prepareModel(original);
  const served = swappable?.model ?? base;
  const g = importGraph(served.graph, opsetOf(served));
  const activations = chosenActivations(base, options, swappable?.sites);
  const outputs = Object.fromEntries(
    activations.map((site): [string, Value] => [
      outputOf(site),
      exactDensity(g, g.value(site.activation), options.maskPadding ? maskFor(g, site) : null),
    ]),
  );
  const parameters = swappable ? adapterFeeds(swappable, adapter) : {};
  const program = buildEvaluationProgram(
    g,
    outputs,
    Object.keys(parameters).map((name) => g.value(name)),
  );
  const sums = new Float64Array(activations.length);
  const counts = batches.map((feeds) => Object.values(feeds)[0]?.dims[0] ?? 1);
  let next = 0;
  const onOutputs = (found: Readonly<Record<string, { readonly data: unknown }>>): void => {
    const samples = counts[next++] ?? 1;
    activations.forEach((site, i) => {
      const [density = Number.NaN] = (found[outputOf(site)]?.data ?? []) as Float32Array;
      sums[i] = (sums[i] as number) + samples * density;
    });
  };
  await runForward(program, batches, onOutputs, {
    parameters,
    ...(isolation ? { isolation } : {}),
    ...(threads === undefined ? {} : { threads }),
  });
  const samples = counts.reduce((a, b) => a + b, 0);
  const layers = activations.map(({ name }, i) => ({ name, density: (sums[i] as number) / samples }));
  return { density: layers.reduce((sum, layer) => sum + layer.density, 0) / layers.length, layers };
}
