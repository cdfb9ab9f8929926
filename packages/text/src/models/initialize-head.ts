import { createRandom, streamSeed, type TensorData, tensorFrom } from "@onnx-peft/core";
import type { EncoderArchitecture, Head } from "./encoder.ts";

/** Standard deviation of new weights, BERT's `initializer_range`. */
const DEVIATION = 0.02;

/**
 * Adds the head tensors that a checkpoint lacks, with weights from N(0, 0.02²) and zero biases, and replaces a classifier
 * that was made for another number of labels. Each module draws from a stream of its own name.
 * @param weights under their full names; changed.
 * @returns names of the modules that were made.
 */
export function initializeHead(
  weights: Map<string, TensorData>,
  { sizes, vocabSize, prefix }: EncoderArchitecture,
  head: Head,
  seed: number | string,
): string[] {
  const h = sizes.hiddenSize;
  const made: string[] = [];
  for (const [name, out] of headModules(prefix, head, h)) {
    if (weights.get(`${name}.weight`)?.dims[0] === out) continue;
    const random = createRandom(streamSeed(seed, "head", name));
    const values = random.fillNormal(new Float32Array(out * h), 0, DEVIATION);
    weights.set(`${name}.weight`, tensorFrom("float32", [out, h], values));
    weights.set(`${name}.bias`, tensorFrom("float32", [out], new Float32Array(out)));
    made.push(name);
  }
  const bias = prefix === "bert." ? "cls.predictions.bias" : null;
  if (head.type === "masked-lm" && bias !== null && !weights.has(bias)) {
    weights.set(bias, tensorFrom("float32", [vocabSize], new Float32Array(vocabSize)));
  }
  return made;
}

/** Linear modules of a head, [hidden] in, and their sizes; names as in transformers. */
function headModules(prefix: string, head: Head, hidden: number): [name: string, out: number][] {
  if (head.type === "masked-lm" || head.type === "none") return [];
  if (head.type === "token-classification") return [["classifier", head.labels]];
  const perArchitecture: Record<string, [string, number][]> = {
    "bert.": [
      ["bert.pooler.dense", hidden],
      ["classifier", head.labels],
    ],
    "distilbert.": [
      ["pre_classifier", hidden],
      ["classifier", head.labels],
    ],
    "roberta.": [
      ["classifier.dense", hidden],
      ["classifier.out_proj", head.labels],
    ],
  };
  return perArchitecture[prefix] ?? [];
}
