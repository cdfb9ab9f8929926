import { differentiate } from "../../autodiff/differentiate.ts";
import { PeftError } from "../../errors.ts";
import type { Builder } from "../../graph/builder.ts";
import { type Matrix, matrix } from "../../linalg/matrix.ts";
import { randomizedSvd } from "../../linalg/randomized-svd.ts";
import type { LossParts } from "../../losses/loss-parts.ts";
import type { DataNeed, SiteData } from "../../methods/calibration.ts";
import type { Value } from "../../onnx/ir.ts";
import type { FeedBatches } from "../feed-batches.ts";
import { type ForwardRunOptions, runForward } from "../forward-runs.ts";
import { inputStatistics } from "../input-statistics.ts";
import { buildEvaluationProgram } from "../program.ts";
import type { ProbedGraph, ProbedSite } from "./probe-sites.ts";

/** A module and what its start asks for. */
export interface Wanted {
  readonly probed: ProbedSite;
  readonly need: DataNeed;
}

/** Modules in groups whose matrices of one batch fit; modules with the same input have one matrix. */
export function groupsOf(wanted: readonly Wanted[], maxBytes: number): Wanted[][] {
  const result: Wanted[][] = [];
  let [bytes, inputs] = [0, new Set<string>()];
  for (const entry of wanted) {
    const { probed, need } = entry;
    const { inFeatures, outFeatures } = probed.plan.site;
    const isGradient = need.kind === "gradient";
    const own = isGradient || !inputs.has(probed.x.name) ? 4 * inFeatures * (isGradient ? outFeatures : inFeatures) : 0;
    if (result.length === 0 || bytes + own > maxBytes) {
      result.push([]);
      [bytes, inputs] = [0, new Set()];
    }
    bytes += own;
    inputs.add(probed.x.name);
    result.at(-1)?.push(entry);
  }
  return result;
}

/** Gram matrices or covariances of what some modules are applied to, by module. */
export async function collectInputMatrices(
  graph: ProbedGraph,
  sites: readonly ProbedSite[],
  kind: "gram" | "covariance",
  batches: FeedBatches,
  options: ForwardRunOptions,
): Promise<Map<string, SiteData>> {
  const names = [...new Set(sites.map(({ x }) => x.name))];
  const { parameters } = graph;
  const found = await inputStatistics(graph.adapted.g, names, [kind], batches, { ...options, parameters });
  return new Map(
    sites.map(({ plan: { site }, x }) => [
      site.name,
      { [kind]: matrix(site.inFeatures, site.inFeatures, found.get(x.name)?.[kind] ?? new Float32Array()) },
    ]),
  );
}

const WEIGHT = "calibration.weight";

/**
 * Leading singular triplets of the gradients of some modules' weights: the mean over batches of the gradient of a batch's mean loss, dYᵀ·X
 * with X the rows that a module is applied to and dY the gradient at its result.
 * @param rank how many of a module, at most
 */
export async function collectGradients(
  graph: ProbedGraph,
  sites: readonly ProbedSite[],
  loss: LossParts,
  rank: (site: ProbedSite) => number,
  batches: FeedBatches,
  options: ForwardRunOptions,
): Promise<Map<string, SiteData>> {
  const { g } = graph.adapted;
  const outputs = weightGradients(g, sites, loss.sum);
  const named = Object.fromEntries(sites.map(({ plan }, i) => [plan.site.name, outputs[i] as Value]));
  const trained = Object.keys(graph.parameters).map((name) => g.value(name));
  const program = buildEvaluationProgram(g, { ...named, [WEIGHT]: loss.weight }, trained);
  const totals = new Map<string, Float64Array>();
  let count = 0;
  await runForward(
    program,
    batches,
    (results) => {
      count++;
      const [weight = 0] = (results[WEIGHT]?.data ?? []) as ArrayLike<number> & Iterable<number>;
      if (!(weight > 0)) throw new PeftError("EMPTY_BATCH", `The total weight of batch ${count - 1} is ${weight}.`);
      for (const name of Object.keys(named)) {
        const part = results[name]?.data as Float32Array;
        const total = totals.get(name) ?? new Float64Array(part.length);
        for (let i = 0; i < part.length; i++) total[i] = (total[i] as number) + (part[i] as number) / weight;
        totals.set(name, total);
      }
    },
    { ...options, parameters: graph.parameters },
  );
  const found = new Map<string, SiteData>();
  for (const probed of sites) {
    const { name, outFeatures, inFeatures } = probed.plan.site;
    const total = totals.get(name) ?? new Float64Array();
    const mean: Matrix = matrix(
      outFeatures,
      inFeatures,
      total.map((v) => v / count),
    );
    totals.delete(name);
    const k = Math.min(rank(probed), outFeatures, inFeatures);
    found.set(name, { gradient: await randomizedSvd(mean, k, { oversampling: Math.max(16, k) }) });
  }
  return found;
}

/** dYᵀ·X [out, in] of each module, summed over its uses. */
function weightGradients(g: Builder, sites: readonly ProbedSite[], loss: Value): Value[] {
  const all = sites.flatMap(({ outputs }) => outputs);
  const gradients = differentiate(g, [{ value: loss }], all);
  let at = 0;
  return sites.map(({ x, outputs }) => {
    const own = outputs.map(() => g.toMatrix(g.cast(gradients[at++] as Value, "float32")));
    return g.gemm(g.concat(own, 0), x, null, { transA: true });
  });
}
