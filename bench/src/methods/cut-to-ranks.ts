import {
  type Adapter,
  type AdapterConfigInput,
  dylora,
  type LoraConfig,
  parseAdapterConfig,
  truncateDylora,
} from "@onnx-peft/core";
import type { ClaimOutcome } from "../claim.ts";
import { mean } from "../mean.ts";

/** Ranks that one training has to serve; the last one is that of the training. */
export const RANKS = [1, 2, 4, 8] as const;
const WHOLE = 8;

/** Scores of one trained adapter at the ranks that it is cut to. */
export interface Cuts {
  /** One for every rank; a single one of a LoRA of lower rank, which is not cut. */
  readonly scores: readonly number[];
  /** Of the training, on one thread. */
  readonly cpuSeconds: number;
}

/** The tensors of a LoRA cut to a rank, with the factor alpha / rank. */
function cutLora({ config, tensors }: Adapter, rank: number, alpha: number): Adapter {
  const { targetModules, modulesToSave } = config;
  const own = { rMax: WHOLE, alpha, targetModules, modulesToSave } as AdapterConfigInput;
  return truncateDylora({ type: dylora.type, config: parseAdapterConfig(dylora as never, own), tensors }, rank);
}

/** For every rank the adapters of which the best counts: a LoRA is cut with the factor of the rank and with that of the whole. */
function formsOf(adapter: Adapter): readonly (readonly Adapter[])[] {
  if (adapter.type === dylora.type) return RANKS.map((rank) => [truncateDylora(adapter, rank)]);
  const { r, alpha } = adapter.config as unknown as LoraConfig;
  if (r !== WHOLE) return [[adapter]];
  return RANKS.map((rank) =>
    rank === WHOLE ? [adapter] : [alpha, (alpha * rank) / WHOLE].map((a) => cutLora(adapter, rank, a)),
  );
}

/** Scores of a DyLoRA or of a LoRA of rank 8 at every rank, or of a LoRA of lower rank as it is. */
async function scoreCuts(adapter: Adapter, score: (adapter: Adapter) => Promise<number>): Promise<number[]> {
  const scores: number[] = [];
  for (const forms of formsOf(adapter)) {
    const each: number[] = [];
    for (const form of forms) each.push(await score(form));
    scores.push(Math.max(...each));
  }
  return scores;
}

/** Trains in this process, of which the time is taken, and scores what is trained. */
export async function trainAndCut(
  train: () => Promise<{ readonly adapter: Adapter } & AsyncDisposable>,
  score: (adapter: Adapter) => Promise<number>,
): Promise<Cuts> {
  const before = process.cpuUsage();
  await using tuned = await train();
  const { user, system } = process.cpuUsage(before);
  return { scores: await scoreCuts(tuned.adapter, score), cpuSeconds: (user + system) / 1e6 };
}

/** Trainings of several seeds. */
export interface RankRuns {
  readonly dylora: readonly Cuts[];
  /** LoRA of rank 8, to be cut. */
  readonly cut: readonly Cuts[];
  /** LoRA trained at ranks, the first and the last one among them; of what is cut the whole counts. */
  readonly alone: ReadonlyMap<number, readonly Cuts[]>;
}

/** Mean over seeds, rank by rank. */
const over = (runs: readonly Cuts[]): number[] =>
  (runs[0]?.scores ?? []).map((_, k) => mean(runs.map(({ scores }) => scores[k] as number)));

/** What is asked of DyLoRA, and the figures that answer it. */
export function judgeRanks({ dylora: dynamic, cut, alone }: RankRuns): ClaimOutcome & { readonly note: string } {
  const [ours, theirs] = [over(dynamic), over(cut)];
  const trained = new Map([...alone].map(([rank, runs]) => [rank, over(runs).at(-1) as number]));
  const table = (name: string, values: Iterable<readonly [rank: number, score: number]>): Record<string, number> =>
    Object.fromEntries(Array.from(values, ([rank, score]) => [`${name}, rank ${rank}`, score]));
  const byRank = (scores: readonly number[]) => RANKS.map((rank, k) => [rank, scores[k] as number] as const);
  const gain = mean(ours) - mean(theirs);
  const time = (runs: readonly Cuts[]): number => mean(runs.map(({ cpuSeconds }) => cpuSeconds));
  const ratio = time(dynamic) / time(cut);
  const isNear = (rank: (typeof RANKS)[number], distance: number): boolean =>
    (ours[RANKS.indexOf(rank)] as number) >= (trained.get(rank) ?? Number.NaN) - distance;
  return {
    figures: {
      ...table("DyLoRA", byRank(ours)),
      ...table("LoRA r 8, cut", byRank(theirs)),
      ...table("LoRA trained at the rank", trained),
      "DyLoRA above the cut LoRA, mean over ranks": gain,
      "CPU time of one DyLoRA run over one LoRA run of r 8": ratio,
    },
    holds: gain >= 0.05 && isNear(WHOLE, 0.02) && isNear(1, 0.03) && ratio <= 1.2,
    note: "Asked for: five points above the cut LoRA in the mean over ranks, at rank 8 within two points of LoRA, at rank 1 within three points of LoRA r 1, at most 1.2 times the time.",
  };
}
