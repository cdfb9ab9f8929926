import { PeftError } from "../../errors.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs } from "../../runtime/runtime.ts";
import type { Batch } from "../batches.ts";
import { symbolSizes } from "../dropout-feeds.ts";
import { createEngine, type Engine } from "../engine.ts";
import { createEngineProcess } from "../engine-process.ts";
import { planMicroBatches } from "../micro-batches.ts";
import type { TrainOptions } from "../options.ts";
import type { EvaluationProgram, TrainingProgram } from "../program.ts";
import { runSizes } from "../run-sizes.ts";
import type { TrainingRun } from "../training-run.ts";
import { bytesPerNumber, createRowStore } from "./row-store.ts";
import { type RowLayout, rowLayout, rowSize, stackRows, takeRow } from "./rows.ts";
import { splitProgram } from "./split-program.ts";

const defaults = { maxBytes: 2 ** 30, precision: "float32" } as const;

/** A training run whose lower part is computed once. */
export interface PrefixCache extends AsyncDisposable {
  /** What is left to run in every step. */
  readonly training: TrainingProgram;
  /** The batch with feeds for {@link PrefixCache.training}. */
  attach(batch: Batch): Promise<Batch>;
}

/**
 * Cuts a run's program and computes what lies below the cut for all samples that fit, in the order of the data, in one pass
 * whose micro-batches are a function of the data alone: a resumed run keeps the same numbers. The process with the lower
 * weights ends with the pass when all samples fit.
 * @throws PeftError NO_PREFIX, PREFIX_ROWS
 */
export async function openPrefixCache<Sample>(run: TrainingRun<Sample>, options: TrainOptions): Promise<PrefixCache> {
  const { prefixCache, prefixDropout } = options;
  const settings = typeof prefixCache === "object" ? prefixCache : defaults;
  const { prefix, suffix, cut, axes, workShare } = splitProgram(run.training, { prefixDropout });
  const layouts = cut.map((value) => rowLayout(value, axes.batch));
  const rows = rowsOf(run);
  const bytesOf = (sample: number): number => {
    const numbers = rows.lengths(sample).flatMap((tokens) => layouts.map((layout) => rowSize(layout, tokens)));
    return bytesPerNumber(settings.precision) * numbers.reduce((a, b) => a + b, 0);
  };
  const isKept = new Set<number>();
  let bytes = 0;
  const kept: number[] = [];
  for (let sample = 0; sample < run.data.samples.length; sample++) {
    const own = bytesOf(sample);
    if (bytes + own > settings.maxBytes) continue;
    bytes += own;
    kept.push(sample);
  }
  const lower = await openLower(prefix, options);
  const store = await createRowStore(settings).catch(async (error: unknown) => {
    await lower.close();
    throw error;
  });
  const close = async (): Promise<void> => {
    try {
      await lower.close();
    } finally {
      await store.close();
    }
  };
  const paddedOf = (program: EvaluationProgram | TrainingProgram, feeds: Feeds): number =>
    (axes.tokens === null ? undefined : symbolSizes(program.inputs, feeds).get(axes.tokens)) ?? 1;

  /** Rows of samples that are run now, by key. */
  const compute = async (members: readonly number[], key: string): Promise<Map<string, Float32Array>> => {
    const feeds = run.data.collate(
      members.map((i) => run.data.samples[i] as Sample),
      key,
    );
    const outputs = await lower.evaluate(feedsOf(prefix, feeds));
    const padded = paddedOf(prefix, feeds);
    const found = new Map<string, Float32Array>();
    rows.of(members).forEach(({ sample, role, tokens }, row, { length }) => {
      for (const layout of layouts) {
        const data = rowData(outputs, layout, length, padded);
        found.set(keyOf(sample, role, layout), takeRow(layout, data, row, tokens, padded));
      }
    });
    return found;
  };

  const fill = async (): Promise<void> => {
    const plan = planMicroBatches(
      kept.map((i) => run.data.lengthOf(run.data.samples[i] as Sample)),
      runSizes(options),
    );
    for (const [k, members] of plan.runs.entries()) {
      if (run.signal?.aborted) return;
      const samples = Array.from(members, (i) => kept[i] as number);
      for (const [key, row] of await compute(samples, `prefix.${k}`)) await store.put(key, row);
      for (const sample of samples) isKept.add(sample);
    }
    const left = run.data.samples.length - kept.length;
    const values = cut.map(({ name, shape }) => ({ name, shape }));
    run.onEvent?.({ type: "prefix", step: 0, values, kept: kept.length, left, bytes, workShare });
    if (left === 0) await lower.close();
  };
  try {
    await fill();
  } catch (error) {
    await close();
    throw error;
  }

  return {
    training: suffix,
    async attach(batch) {
      const runs: Feeds[] = [];
      for (const [k, feeds] of batch.runs.entries()) {
        const members = [...(batch.members[k] ?? [])];
        const missing = members.filter((i) => !isKept.has(i));
        const computed = missing.length > 0 ? await compute(missing, `prefix.${k}`) : null;
        const padded = paddedOf(run.training, feeds);
        const stored: Record<string, Feeds[string]> = {};
        for (const layout of layouts) {
          const list = [];
          for (const { sample, role, tokens } of rows.of(members)) {
            const key = keyOf(sample, role, layout);
            const data = computed?.get(key) ?? (await store.get(key));
            if (!data) throw new PeftError("PREFIX_ROWS", `expected a kept row "${key}", received none.`);
            list.push({ data, tokens });
          }
          stored[layout.name] = stackRows(layout, list, padded);
        }
        runs.push(feedsOf(suffix, { ...feeds, ...stored }));
      }
      return { ...batch, runs };
    },
    [Symbol.asyncDispose]: close,
  };
}

const keyOf = (sample: number, role: number, { name }: RowLayout): string => `${sample}.${role}.${name}`;

const feedsOf = ({ inputs }: EvaluationProgram | TrainingProgram, feeds: Feeds): Feeds =>
  Object.fromEntries(inputs.flatMap(({ name }) => (feeds[name] ? [[name, feeds[name]]] : [])));

function openLower(
  evaluation: EvaluationProgram,
  { isolation, threads, device, seed }: TrainOptions,
): Promise<Pick<Engine, "evaluate" | "close">> {
  const setup = { evaluation, parameters: {}, seed, device, ...(threads === undefined ? {} : { threads }) };
  return isolation === "inline" ? createEngine(onnxruntimeNode, setup) : createEngineProcess(setup);
}

/** Which rows of the model's batch belong to which samples. */
function rowsOf<Sample>({ data }: TrainingRun<Sample>) {
  const lengths = (sample: number): readonly number[] => {
    const item = data.samples[sample] as Sample;
    return data.rowLengthsOf?.(item) ?? [data.lengthOf(item)];
  };
  return {
    lengths,
    of(members: readonly number[]) {
      const each = members.map((sample) => ({ sample, lengths: lengths(sample) }));
      const roles = each[0]?.lengths.length ?? 0;
      return Array.from({ length: roles }, (_, role) =>
        each.map(({ sample, lengths: own }) => ({ sample, role, tokens: own[role] ?? 0 })),
      ).flat();
    },
  };
}

function rowData(outputs: Outputs, { name, isFlat }: RowLayout, rows: number, padded: number): Float32Array {
  const output = outputs[name];
  if (output?.data instanceof Float32Array && output.dims[0] === (isFlat ? rows * padded : rows)) return output.data;
  throw new PeftError(
    "PREFIX_ROWS",
    `expected ${rows} rows of "${name}", received ${output ? `[${output.dims.join(", ")}]` : "none"}.`,
    { hint: "Say in the data's rowLengthsOf which rows a sample takes." },
  );
}
