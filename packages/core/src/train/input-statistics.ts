import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { FeedBatches } from "./feed-batches.ts";
import { type ForwardRunOptions, noBatches, runForward } from "./forward-runs.ts";
import { buildEvaluationProgram } from "./program.ts";

/**
 * What can be collected of a value x, over all rows [n, k] of all batches: per channel the largest and smallest number, the
 * largest magnitude, the mean magnitude, the mean square; "gram", the sum of xᵀ·x [k, k]; or "covariance", the mean over batches of Xᵀ·X / max(X)² [k, k]
 * (CorDA's).
 */
export type Statistic = "max" | "min" | "absMax" | "absMean" | "meanSquare" | "gram" | "covariance";

const ROWS = "calibration.rows";
const isLargest = (kind: Statistic): boolean => kind === "max" || kind === "absMax";
const isMean = (kind: Statistic): boolean => kind === "absMean" || kind === "meanSquare";

/** The statistic of one batch; means as sums. */
function ofBatch(g: Builder, x: Value, kind: Statistic): Value {
  const rows = g.toMatrix(x);
  switch (kind) {
    case "max":
      return g.reduceMax(rows, [0], false);
    case "min":
      return g.reduceMin(rows, [0], false);
    case "absMax":
      return g.reduceMax(g.abs(rows), [0], false);
    case "absMean":
      return g.reduceSum(g.abs(rows), [0], false);
    case "meanSquare":
      return g.reduceSum(g.mul(rows, rows), [0], false);
    case "gram":
      return g.gemm(rows, rows, null, { transA: true });
    case "covariance": {
      // Scaled before the product: its entries would be as large as max(X)².
      const scaled = g.div(rows, g.abs(g.reduceMax(rows, [0, 1], true)));
      return g.gemm(scaled, scaled, null, { transA: true });
    }
  }
}

function add(total: Float64Array | undefined, part: Float32Array, kind: Statistic): Float64Array {
  if (!total) return Float64Array.from(part);
  for (let i = 0; i < total.length; i++) {
    const [a, b] = [total[i] as number, part[i] as number];
    total[i] = isLargest(kind) ? Math.max(a, b) : kind === "min" ? Math.min(a, b) : a + b;
  }
  return total;
}

/** Statistics of a graph's values on their way: what it computes of a batch, and the sums over batches. */
export interface StatisticsCollector {
  /** Outputs to run the graph with. */
  readonly outputs: Readonly<Record<string, Value>>;
  /** Takes the outputs of a batch. */
  add(results: Readonly<Record<string, { readonly data: unknown }>>): void;
  /** For every value and statistic one array; padding counts like any row. */
  result(): ValueStatistics;
}

export type ValueStatistics = ReadonlyMap<string, Readonly<Partial<Record<Statistic, Float32Array>>>>;

/**
 * Adds to a graph what collects statistics of some of its values.
 * @param values names of float32 values whose last axis is the channels.
 */
export function collectStatistics(
  g: Builder,
  values: readonly string[],
  kinds: readonly Statistic[],
): StatisticsCollector {
  const outputs: Record<string, Value> = {};
  for (const name of values) {
    const x = g.value(name);
    outputs[`${name}:${ROWS}`] = g.cast(g.gather(g.shapeOf(g.toMatrix(x)), g.ints([0])), "float32");
    for (const kind of kinds) outputs[`${name}:${kind}`] = ofBatch(g, x, kind);
  }
  const totals = new Map<string, Float64Array>();
  let count = 0;
  const result = (name: string, kind: Statistic): Float32Array => {
    const rows = isMean(kind) ? (totals.get(`${name}:${ROWS}`)?.[0] ?? 1) : kind === "covariance" ? count : 1;
    return Float32Array.from(totals.get(`${name}:${kind}`) ?? [], (v) => v / rows);
  };
  return {
    outputs,
    add(results) {
      count++;
      for (const name of values) {
        for (const kind of [...kinds, ROWS] as const) {
          const key = `${name}:${kind}`;
          totals.set(key, add(totals.get(key), results[key]?.data as Float32Array, kind === ROWS ? "gram" : kind));
        }
      }
    },
    result: () =>
      new Map(values.map((name) => [name, Object.fromEntries(kinds.map((kind) => [kind, result(name, kind)]))])),
  };
}

/**
 * Collects statistics of values of a graph over some batches, in runs of their own.
 * @param values names of float32 values whose last axis is the channels.
 * @throws PeftError NO_DATA without batches
 */
export async function inputStatistics(
  g: Builder,
  values: readonly string[],
  kinds: readonly Statistic[],
  batches: FeedBatches,
  options: ForwardRunOptions = {},
): Promise<ValueStatistics> {
  // Before anything is opened, where that can be told.
  if (typeof batches !== "function" && batches.length === 0) throw noBatches();
  const collector = collectStatistics(g, values, kinds);
  const parameters = Object.keys(options.parameters ?? {}).filter((name) => g.has(name));
  const program = buildEvaluationProgram(
    g,
    collector.outputs,
    parameters.map((name) => g.value(name)),
  );
  await runForward(program, batches, collector.add, options);
  return collector.result();
}
