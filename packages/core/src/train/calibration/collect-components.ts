import { PeftError } from "../../errors.ts";
import { extendPca, type IncrementalPca, rowCosines } from "../../linalg/incremental-pca.ts";
import { type Matrix, matrix } from "../../linalg/matrix.ts";
import type { ComponentSite, Components, DataNeed } from "../../methods/calibration.ts";
import type { Value } from "../../onnx/ir.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { type FeedBatches, readBatches } from "../feed-batches.ts";
import { type ForwardRunOptions, noBatches, openForward } from "../forward-runs.ts";
import { buildEvaluationProgram } from "../program.ts";
import type { ProbedGraph, ProbedSite } from "./probe-sites.ts";

type ComponentNeed = Extract<DataNeed, { kind: "components" }>;

/** A module and what it asks for. */
export interface ComponentsWanted {
  readonly probed: ProbedSite;
  readonly need: ComponentNeed;
}

export interface CollectComponents {
  readonly graph: ProbedGraph;
  readonly wanted: readonly ComponentsWanted[];
  readonly batches: FeedBatches;
  /** Which rows count, in the order of the model's input; null: all. */
  readonly rowMask: (feeds: Feeds) => ArrayLike<number | bigint> | null;
  /** How many components of each module are used. */
  readonly used: (found: readonly ComponentSite<object>[]) => readonly number[];
  /** Batches until all of those must have been found. */
  readonly maxBatches: number;
  readonly options: ForwardRunOptions;
}

/** One input that several modules may share. */
interface InputState {
  readonly count: number;
  readonly need: ComponentNeed;
  pca: IncrementalPca | null;
  /** Which components stayed as they were in the last batch. */
  similar: readonly boolean[];
}

/**
 * Principal components of the inputs of modules, batch by batch, until those that are used do not turn any more. The batches are read
 * again from the beginning as often as it takes; an input is left alone while its own are found, as in peft's EVA. Memory: the rows
 * of one batch at all different inputs.
 * @throws PeftError NO_DATA, COMPONENTS_NOT_FOUND
 */
export async function collectComponents(run: CollectComponents): Promise<ComponentSite<object>[]> {
  const { graph, wanted, batches, used, maxBatches } = run;
  const { g } = graph.adapted;
  const values = [...new Map(wanted.map(({ probed: { x } }) => [x.name, x])).values()];
  const rowsName = (x: Value): string => `rows:${x.name}`;
  const program = buildEvaluationProgram(
    g,
    Object.fromEntries(values.map((x) => [rowsName(x), x])),
    Object.keys(graph.parameters).map((name) => g.value(name)),
  );
  await using forward = await openForward(program, { ...run.options, parameters: graph.parameters });
  let inputs: number[] | null = null;
  let states: InputState[] = [];
  let ranks: readonly number[] | null = null;
  const found = (): ComponentSite<object>[] =>
    wanted.map(({ probed: { plan } }, i) => {
      const input = inputs?.[i] ?? 0;
      return { site: plan.site, config: plan.config, input, components: componentsOf(states[input]) };
    });
  const isFound = (state: InputState, index: number): boolean => {
    const wantedRanks = ranks?.filter((_, i) => inputs?.[i] === index) ?? [];
    const most = ranks ? Math.max(0, ...wantedRanks) : state.count;
    return state.similar.slice(0, most).filter(Boolean).length === most;
  };
  for (let done = 0; ; ) {
    const before = done;
    for await (const feeds of readBatches(batches)) {
      const open = states.map((state, k) => !isFound(state, k));
      if (inputs && !open.includes(true)) return found();
      if (done++ >= maxBatches) throw notFound(states.length, open.filter(Boolean).length, maxBatches);
      const outputs = await forward.run(feeds);
      const rowsOf = (x: Value): Matrix =>
        countedRows(outputs[rowsName(x)], run.rowMask(feeds), feeds, wanted[0]?.need);
      if (!inputs) {
        const first = new Map(values.map((x) => [x.name, rowsOf(x)]));
        inputs = inputNumbers(wanted, first);
        states = statesOf(wanted, inputs);
      }
      for (const [k, state] of states.entries()) {
        if (open[k] === false) continue;
        const x = wanted[inputs.indexOf(k)]?.probed.x;
        if (x) await extend(state, rowsOf(x));
      }
      if (states.every(({ pca }) => pca)) ranks = used(found());
    }
    if (done === before) throw noBatches();
  }
}

const componentsOf = (state: InputState | undefined): Components => {
  const pca = state?.pca;
  if (!pca) throw new PeftError("COMPONENTS_NOT_FOUND", "expected components, no batch had enough rows.");
  return { directions: pca.components, singularValues: pca.singularValues, explained: pca.explained };
};

const notFound = (all: number, open: number, batches: number): PeftError =>
  new PeftError(
    "COMPONENTS_NOT_FOUND",
    `After ${batches} batches ${open || all} of ${all || "all"} inputs still have components that turn from batch to batch.`,
    { hint: "Use larger batches (more rows than components), lower tau, or raise maxBatches." },
  );

/** Adds rows, unless there are fewer than components. */
async function extend(state: InputState, rows: Matrix): Promise<void> {
  if (rows.rows < state.count) return;
  const previous = state.pca;
  state.pca = await extendPca(previous, rows, state.count);
  if (!previous) return;
  const cosines = rowCosines(state.pca.components, previous.components);
  state.similar = Array.from(cosines, (cosine) => cosine >= state.need.similarity);
}

/** Rows [rows, in] that count: not padding, and not labelled as ignored, where mask and labels have as many entries. */
function countedRows(
  output: { readonly dims: readonly number[]; readonly data: unknown } | undefined,
  mask: ArrayLike<number | bigint> | null,
  feeds: Feeds,
  need: ComponentNeed | undefined,
): Matrix {
  const [rows = 0, width = 0] = output?.dims ?? [];
  const data = output?.data as Float32Array;
  const ignored = need?.ignoredLabel ?? null;
  const labels = ignored === null ? undefined : feeds["labels"]?.data;
  const counts = (i: number): boolean =>
    (mask?.length !== rows || Number(mask[i]) !== 0) &&
    (labels?.length !== rows || mask?.length !== rows || Number(labels[i]) !== ignored);
  const chosen = Array.from({ length: rows }, (_, i) => i).filter(counts);
  const result = matrix(chosen.length, width);
  chosen.forEach((from, to) => {
    result.data.set(data.subarray(from * width, (from + 1) * width), to * width);
  });
  return result;
}

/** Numbers the inputs: modules whose rows of the first batch are the same share one. */
function inputNumbers(wanted: readonly ComponentsWanted[], first: ReadonlyMap<string, Matrix>): number[] {
  const known: Matrix[] = [];
  return wanted.map(({ probed: { x } }) => {
    const rows = first.get(x.name) as Matrix;
    const at = known.findIndex(
      (other) =>
        other === rows || (other.data.length === rows.data.length && other.data.every((v, i) => v === rows.data[i])),
    );
    return at >= 0 ? at : known.push(rows) - 1;
  });
}

/** An input gets the components of the module that wants most; none has more than columns. */
function statesOf(wanted: readonly ComponentsWanted[], inputs: readonly number[]): InputState[] {
  return Array.from({ length: Math.max(...inputs) + 1 }, (_, k) => {
    const own = wanted.filter((_, i) => inputs[i] === k);
    const need = (own[0] as ComponentsWanted).need;
    const width = own[0]?.probed.plan.site.inFeatures ?? 0;
    return { need, count: Math.min(width, Math.max(...own.map((w) => w.need.count))), pca: null, similar: [] };
  });
}
