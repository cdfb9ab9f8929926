import {
  type Builder,
  buildTrainingProgram,
  createBuilder,
  type Feeds,
  type LossParts,
  type RuntimeTensor,
  type TensorData,
  tensorFrom,
  train,
  type Value,
  type WeightReader,
} from "@onnx-peft/core";

export interface FromNothing {
  /** The model and its loss; every weight that is asked for is trained. */
  build(g: Builder, w: WeightReader): LossParts;
  /** A weight before training. */
  start(name: string, dims: readonly number[]): RuntimeTensor;
  /** Samples by their indices: each is seen once. */
  collate(indices: readonly number[]): Feeds;
  /** Tokens of a sample. */
  readonly tokens: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly seed: number;
  /** Is told of the progress from time to time. */
  log?(text: string): void;
}

const LOGGED = 100;

/** Trains all weights of a model on one thread: AdamW with weight decay 0.01, gradients clipped at 1, a cosine after five per cent of warm-up. */
export async function trainFromNothing(options: FromNothing): Promise<Map<string, TensorData>> {
  const { steps, batchSize, learningRate, tokens, seed, collate } = options;
  const g = createBuilder(21);
  const initial: Record<string, RuntimeTensor> = {};
  const trained: Value[] = [];
  const weight = (name: string, dims: readonly number[]): Value => {
    initial[name] = options.start(name, dims);
    const input = g.input(name, "float32", dims);
    trained.push(input);
    return input;
  };
  const loss = options.build(g, { weight, check() {} });
  const { parameters } = await train<number>({
    training: buildTrainingProgram(g, loss, trained),
    parameters: initial,
    data: {
      samples: Int32Array.from({ length: steps * batchSize }, (_, i) => i),
      lengthOf: () => tokens,
      collate,
    },
    options: {
      ...{ epochs: 1, batchSize, seed, threads: 1, isolation: "inline", availableMemory: "unlimited" },
      ...{ maxGradNorm: 1, optimizer: { type: "adamw", learningRate, weightDecay: 0.01 } },
      schedule: { type: "cosine", warmupRatio: 0.05 },
    },
    onEvent(event) {
      if (event.type !== "progress" || event.step % LOGGED !== 0) return;
      const minutes = Math.ceil(event.remainingMs / 60_000);
      options.log?.(`step ${event.step} of ${event.totalSteps}, loss ${event.loss.toFixed(4)}, ${minutes} min left`);
    },
  });
  const weights = Object.entries(parameters).map(([name, { dims, data }]): [string, TensorData] => [
    name,
    tensorFrom("float32", dims, data as Float32Array),
  ]);
  return new Map(weights);
}
