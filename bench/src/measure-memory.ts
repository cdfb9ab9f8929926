import { join } from "node:path";
import {
  type AdapterConfigInput,
  buildAdapterProgram,
  createInt8Plan,
  createRandom,
  createTensorFile,
  crossEntropy,
  detectWeightBits,
  estimateRun,
  type Feeds,
  type Int8Plan,
  injectAdapter,
  lora,
  type MemoryEstimate,
  type Method,
  type Model,
  onnxruntimeNode,
  train,
} from "@onnx-peft/core";
import { loadTextModel, startValues } from "@onnx-peft/text";
import type { MemoryShape } from "./memory-shapes.ts";
import { randomDecoder } from "./random-decoder.ts";
import { writeRandomModel } from "./random-model.ts";
import { storedModel } from "./stored-model.ts";

export interface MemoryFigures {
  readonly measuredBytes: number;
  readonly estimate: MemoryEstimate;
}

const STEPS = 2;

/** The model as it would come from a file: weights in files, in the shape's storage. */
async function modelOf(folder: string, shape: MemoryShape): Promise<Model> {
  const model = await floatModel(folder, shape);
  return shape.storage ? storedModel(folder, model, shape.storage) : model;
}

async function floatModel(folder: string, shape: MemoryShape): Promise<Model> {
  if (shape.family === "llama") return randomDecoder(folder, shape);
  const config = {
    model_type: "bert",
    vocab_size: shape.vocabulary,
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    intermediate_size: shape.intermediate,
    max_position_embeddings: 512,
    type_vocab_size: 2,
  };
  await writeRandomModel(folder, config);
  return (await loadTextModel({ model: folder }, { type: "sequence-classification", labels: 2 })).model;
}

/** 8-bit weights in a file, without calibration: what they are does not change the memory. */
async function int8Plan(folder: string, model: Model): Promise<Int8Plan> {
  const file = createTensorFile(join(folder, "int8.weights"));
  const plan = createInt8Plan(model, { bits: await detectWeightBits(onnxruntimeNode), store: file.append });
  file.close();
  return plan;
}

/** What is trained, where that is not LoRA of rank 8. */
export interface MeasuredAdapter {
  readonly method: Method;
  readonly config: Readonly<Record<string, unknown>>;
}

const loraOfRank8: MeasuredAdapter = { method: lora as unknown as Method, config: { r: 8 } };

/** Trains a shape for two steps in a process of its own; its peak, and what was estimated before. */
export async function measureMemory(
  folder: string,
  shape: MemoryShape,
  { method, config: own }: MeasuredAdapter = loraOfRank8,
): Promise<MemoryFigures> {
  const model = await modelOf(folder, shape);
  const config = { ...own, targetModules: shape.targetModules } as AdapterConfigInput;
  const adapted = injectAdapter(model, { method, config, wantedOutputs: ["logits"], training: true });
  const { g } = adapted;
  const logits = g.value("logits");
  const labels = g.input("labels", "int64", logits.shape.slice(0, -1));
  const extras = shape.compute === "int8" ? { int8: await int8Plan(folder, model) } : {};
  const training = buildAdapterProgram(adapted, crossEntropy(g, { logits, labels }), extras);
  const random = createRandom(2);
  const { batch, tokens } = shape;
  const int64 = (dims: readonly number[], below: number) => ({
    type: "int64" as const,
    dims,
    data: BigInt64Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => BigInt(random.integer(below))),
  });
  const run = {
    training,
    parameters: startValues(adapted, 1),
    data: {
      samples: Array.from({ length: STEPS * batch }, () => tokens),
      lengthOf: () => tokens,
      collate(samples: readonly number[]): Feeds {
        const dims = [samples.length, tokens];
        const mask = { type: "int64" as const, dims, data: new BigInt64Array(samples.length * tokens).fill(1n) };
        const all: Feeds = {
          input_ids: int64(dims, shape.vocabulary),
          attention_mask: mask,
          token_type_ids: int64(dims, 1),
          labels: int64(labels.shape.length === 1 ? [samples.length] : dims, 2),
        };
        return Object.fromEntries(training.inputs.map(({ name }) => [name, all[name] as Feeds[string]]));
      },
    },
    options: {
      epochs: 1,
      batchSize: batch,
      optimizer: { type: "adamw", learningRate: 1e-4 },
      availableMemory: "unlimited",
      threads: 2,
      ...(shape.microBatchTokens === undefined ? {} : { microBatchTokens: shape.microBatchTokens }),
      ...(shape.recompute === undefined ? {} : { recompute: shape.recompute }),
    },
  } as const;
  const estimate = await estimateRun(run, run.options);
  const { peakRssBytes } = await train(run);
  return { measuredBytes: peakRssBytes, estimate };
}
