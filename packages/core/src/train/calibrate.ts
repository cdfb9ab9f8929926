import { findSites } from "../adapters/sites.ts";
import { importGraph } from "../graph/import-graph.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import type { FeedBatches } from "./feed-batches.ts";
import type { ForwardRunOptions } from "./forward-runs.ts";
import { inputStatistics, type Statistic } from "./input-statistics.ts";

export interface CalibrateOptions extends Omit<ForwardRunOptions, "parameters"> {
  /** What to collect of each module's input. */
  readonly collect: Statistic;
  /** Module paths; default every linear layer. */
  readonly modules?: readonly string[];
}

/**
 * Runs a model on a few batches and collects a statistic of the input of its linear layers: per channel [in], or for "gram" and
 * "covariance" a matrix [in, in]. Costs one forward pass a batch, and for "gram" as much again per layer of equal width. Rows of
 * padding count like others: give batches of little padding.
 *
 * @throws PeftError NO_DATA, FEED_NAMES
 * @example
 * const scales = await calibrate(model, [feeds], { collect: "absMax" });
 * scales.get("bert.encoder.layer.0.attention.self.query"); // Float32Array(768)
 */
export async function calibrate(
  model: Model,
  batches: FeedBatches,
  { collect, modules, ...options }: CalibrateOptions,
): Promise<ReadonlyMap<string, Float32Array>> {
  const prepared = prepareModel(model);
  const wanted = modules ? new Set(modules) : null;
  const sites = findSites(prepared).filter((s) => s.kind === "linear" && (wanted?.has(s.name) ?? true));
  const g = importGraph(prepared.graph, opsetOf(prepared));
  const inputs = [...new Set(sites.map((site) => site.input))];
  const found = await inputStatistics(g, inputs, [collect], batches, options);
  return new Map(sites.map((site) => [site.name, found.get(site.input)?.[collect] ?? new Float32Array()]));
}
