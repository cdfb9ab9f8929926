import { loadTextModel, sequenceClassification } from "@onnx-peft/text";
import { writeRandomModel } from "../random-model.ts";
import { shapes } from "../shapes.ts";
import type { StepShape } from "./measure-cost.ts";

/** Layers that are enough to see what one costs. */
export const LAYERS = 3;
const VOCABULARY = 1000;

export interface BaseShapeOptions {
  readonly layers?: number;
  /** Sequences of 128 tokens in one run. */
  readonly batch?: number;
}

/**
 * Layers of BERT-base's shape with random weights: {@link LAYERS} of them, four sequences of 128 tokens, unless told otherwise.
 * @param folder that the model is written to.
 */
export async function baseShape(
  folder: string,
  { layers = LAYERS, batch = 4 }: BaseShapeOptions = {},
): Promise<StepShape> {
  const config = {
    ...shapes.base.config,
    ...{ num_hidden_layers: layers, vocab_size: VOCABULARY },
    ...{ hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1 },
  };
  await writeRandomModel(folder, config);
  const { head } = sequenceClassification({ labels: ["no", "yes"] });
  return {
    model: await loadTextModel({ model: folder }, head),
    ...{ labels: 2, vocabulary: VOCABULARY, batch, tokens: 128 },
  };
}
