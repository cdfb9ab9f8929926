import { type AdapterConfigInput, methodOf } from "@onnx-peft/core";
import {
  type BroaderDefinition,
  type BroaderDefinitionsOptions,
  broaderDefinitions,
} from "@onnx-peft/examples/wordnet/broader-definitions";
import {
  type ClassificationSample,
  encodeRows,
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

/** Which of two definitions is the broader one: data, and an encoder of two layers with BERT's head for pairs. */
export interface PairTask {
  readonly model: TextModel;
  readonly task: TextTask<ClassificationSample>;
  readonly train: readonly ClassificationSample[];
  readonly validation: readonly ClassificationSample[];
  readonly test: readonly ClassificationSample[];
}

const labels = ["first", "second"] as const;

/** Every seed trains on the same pairs, from the same head. */
export async function openPairTask(sizes: PairSizes): Promise<PairTask> {
  const source = { model: await twoLayerEncoder() };
  const data = broaderDefinitions({ seed: 1, ...sizes });
  const tokenizer = await loadTokenizer(source);
  const encode = async (rows: readonly BroaderDefinition[]): Promise<ClassificationSample[]> =>
    (await encodeRows(tokenizer, rows, { maxLength: 48 })).map((row, i) => ({
      ...row,
      label: labels.indexOf(rows[i]?.label ?? "first"),
    }));
  const task = sequenceClassification({ labels });
  return {
    ...{ model: await loadTextModel(source, task.head), task },
    train: await encode(data.train),
    validation: await encode(data.validation),
    test: await encode(data.test),
  };
}

/** A training on pairs; all linear modules of the two layers are adapted. */
export interface PairRun {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly learningRate: number;
  readonly seed: number;
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

/** One epoch in batches of 8: AdamW, a linear schedule with warm-up, gradients clipped at 1, one thread. */
export async function trainPairs(pairs: PairTask, run: PairRun): Promise<PairFigures> {
  const { type, config, learningRate, seed, judged } = run;
  await using tuned = await fineTune<ClassificationSample, object>({
    ...{ model: pairs.model, task: pairs.task, train: pairs.train, method: methodOf(type) },
    adapter: { ...config, targetModules: ".*encoder\\.layer\\..*" } as AdapterConfigInput<object>,
    options: {
      ...{ epochs: 1, batchSize: 8, seed, maxGradNorm: 1, threads: 1 },
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
  const ranks = [...tuned.adapter.tensors].flatMap(([name, { dims }]): [string, number][] => {
    const module = /encoder\.layer\.(.*)\.lora_A/.exec(name)?.[1];
    return module === undefined ? [] : [[module, dims[0] ?? 0]];
  });
  return {
    accuracy: (await tuned.evaluate(pairs[judged])).accuracy ?? Number.NaN,
    ranks: Object.fromEntries(ranks),
    losses: tuned.training.losses,
  };
}
