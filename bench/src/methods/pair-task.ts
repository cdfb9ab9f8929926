import { type AdapterConfigInput, methodOf } from "@onnx-peft/core";
import {
  type BroaderDefinition,
  type BroaderDefinitionsOptions,
  broaderDefinitions,
} from "@onnx-peft/examples/wordnet/broader-definitions";
import {
  type ClassificationSample,
  encodeRows,
  type FineTuned,
  fineTune,
  loadTextModel,
  loadTokenizer,
  sequenceClassification,
  type TextModel,
  type TextTask,
} from "@onnx-peft/text";
import { HEAD_LEARNING_RATE } from "./train-method.ts";
import { twoLayerEncoder } from "./two-layer-encoder.ts";

/** Numbers of pairs. */
export type PairSizes = Omit<BroaderDefinitionsOptions, "seed">;

type Pair = ClassificationSample & { readonly label: number };

/** Which of two definitions is the broader one: data, and an encoder of two layers with BERT's head for pairs. */
export interface PairTask {
  readonly model: TextModel;
  readonly task: TextTask<ClassificationSample>;
  readonly train: readonly Pair[];
  readonly validation: readonly Pair[];
  readonly test: readonly Pair[];
}

const labels = ["first", "second"] as const;

/** The same whichever comes first. */
const keyOf = ({ text, textPair }: BroaderDefinition): string => [text, textPair].sort().join("\n");

/**
 * Every seed trains on the same pairs, from the same head.
 * @param split which definitions are for validation and which for training; those of test pairs are always the same.
 * @param seen a split whose validation pairs are left out of those of this one, because settings were chosen on them.
 */
export async function openPairTask(sizes: PairSizes, split = 1, seen?: number): Promise<PairTask> {
  const source = { model: await twoLayerEncoder() };
  const data = broaderDefinitions({ seed: split, ...sizes });
  const others = seen === undefined ? [] : broaderDefinitions({ seed: seen, ...sizes }).validation;
  const known = new Set(others.map(keyOf));
  const tokenizer = await loadTokenizer(source);
  const encode = async (rows: readonly BroaderDefinition[]): Promise<Pair[]> =>
    (await encodeRows(tokenizer, rows, { maxLength: 48 })).map((row, i) => ({
      ...row,
      label: labels.indexOf(rows[i]?.label ?? "first"),
    }));
  const task = sequenceClassification({ labels });
  return {
    ...{ model: await loadTextModel(source, task.head), task },
    train: await encode(data.train),
    validation: await encode(data.validation.filter((pair) => !known.has(keyOf(pair)))),
    test: await encode(data.test),
  };
}

/** A training on pairs; all linear modules of the two layers are adapted. */
export interface PairTraining {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly seed: number;
  /** Default 1. */
  readonly epochs?: number;
  /** Pairs of a step; default 8. */
  readonly batchSize?: number;
  /** Where it trains; default a process of its own. */
  readonly isolation?: "process" | "inline";
}

export interface PairRun extends PairTraining {
  /** The split that is looked at. */
  readonly judged: "validation" | "test";
}

export interface PairFigures {
  readonly accuracy: number;
  /** Rank of every adapted module, by its path in the encoder. */
  readonly ranks: Readonly<Record<string, number>>;
  /** Training loss of every step. */
  readonly losses: readonly number[];
}

/** AdamW, a linear schedule with warm-up, gradients clipped at 1, one thread. Close the result. */
export function tunePairs(pairs: PairTask, run: PairTraining): Promise<FineTuned<ClassificationSample>> {
  const { type, config, learningRate, seed, epochs = 1, batchSize = 8, isolation = "process" } = run;
  return fineTune<ClassificationSample, object>({
    ...{ model: pairs.model, task: pairs.task, train: pairs.train, method: methodOf(type) },
    adapter: { ...config, targetModules: ".*encoder\\.layer\\..*" } as AdapterConfigInput<object>,
    options: {
      ...{ epochs, batchSize, seed, maxGradNorm: 1, threads: 1, isolation },
      optimizer: { type: "adamw", learningRate },
      schedule: { type: "linear", warmupRatio: 0.06 },
    },
    groups: (names) => [
      {
        names: names.filter((name) => /(pooler|classifier)\./.test(name)),
        ...{ learningRate: HEAD_LEARNING_RATE, weightDecay: 0 },
      },
    ],
  });
}

/** {@link tunePairs}, judged. */
export async function trainPairs(pairs: PairTask, run: PairRun): Promise<PairFigures> {
  await using tuned = await tunePairs(pairs, run);
  const ranks = [...tuned.adapter.tensors].flatMap(([name, { dims }]): [string, number][] => {
    const module = /encoder\.layer\.(.*)\.lora_A/.exec(name)?.[1];
    return module === undefined ? [] : [[module, dims[0] ?? 0]];
  });
  return {
    accuracy: (await tuned.evaluate(pairs[run.judged])).accuracy ?? Number.NaN,
    ranks: Object.fromEntries(ranks),
    losses: tuned.training.losses,
  };
}
