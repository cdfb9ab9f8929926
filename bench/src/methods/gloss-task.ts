import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { atomicWrite, importGraph, linear, type Model, tensorFrom, toModel, weightReader } from "@onnx-peft/core";
import { type EncodedSplits, linearProbe, type ProbeResult } from "@onnx-peft/examples/quickstart/linear-probe";
import { glossClassification } from "@onnx-peft/examples/wordnet/gloss-classification";
import {
  type ClassificationSample,
  encodeRows,
  loadTextModel,
  loadTokenizer,
  meanPooled,
  sequenceClassification,
  type TextModel,
  type TextTask,
  withTaskIds,
} from "@onnx-peft/text";

const backbone = fileURLToPath(new URL("../../../apps/examples/models/wordnet-bert", import.meta.url));
const cache = fileURLToPath(new URL("../../../runs/probes", import.meta.url));
const OPSET = 21;
/** Inverse strengths of the probe's penalty. */
const CANDIDATES = [1, 3, 10, 30];

/** Numbers of definitions. */
export interface GlossSizes {
  readonly train: number;
  readonly validation: number;
  readonly test: number;
}

type LabelledText = ClassificationSample & { readonly label: number };

/** Data, model and head that all methods start from. */
export interface GlossTask {
  /** The encoder with the mean of its token states and a linear classifier, which is the fitted probe. */
  readonly model: TextModel;
  /** The model that it was quantised from, where it was. */
  readonly original?: Model;
  readonly task: TextTask<ClassificationSample>;
  readonly train: readonly LabelledText[];
  readonly validation: readonly LabelledText[];
  readonly test: readonly LabelledText[];
  /** The frozen encoder with that classifier. */
  readonly probe: {
    readonly validationAccuracy: number;
    readonly testAccuracy: number;
    readonly trainableParameters: number;
  };
}

/**
 * WordNet's definitions in 25 categories over the embedded backbone. The classifier starts as the logistic regression on the
 * frozen encoder's states (linear probing, then fine-tuning: Kumar et al., arXiv 2202.10054), so that a short training
 * shows what an adapter adds to it.
 */
export async function openGlossTask(sizes: GlossSizes, seed: number): Promise<GlossTask> {
  const data = glossClassification({ seed, ...sizes });
  const idOf = new Map(data.labels.map((name, i) => [name, i]));
  const tokenizer = await loadTokenizer({ model: backbone });
  const encode = async (rows: readonly { text: string; label: string }[]): Promise<LabelledText[]> =>
    (await encodeRows(tokenizer, rows, { maxLength: 64 })).map((row, i) => ({
      ...row,
      label: idOf.get(rows[i]?.label ?? "") ?? -1,
    }));
  const splits = {
    train: await encode(data.train),
    validation: await encode(data.validation),
    test: await encode(data.test),
  };
  const encoder = await loadTextModel({ model: backbone }, { type: "none" });
  const key = await fingerprint(sizes, seed);
  const { weights, ...probe } = await cachedProbe(key, encoder, splits, data.labels.length);
  // One task, for methods that route by it.
  const task = withTaskIds<ClassificationSample>(sequenceClassification({ labels: data.labels }), () => 0);
  return { model: withClassifier(encoder, weights, data.labels.length), task, ...splits, probe };
}

/** Names the backbone, the data and how the probe is fitted. */
async function fingerprint(sizes: GlossSizes, seed: number): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify({ sizes, seed, CANDIDATES }));
  return hash
    .update(await readFile(join(backbone, "model.safetensors")))
    .digest("hex")
    .slice(0, 16);
}

/** The probe takes as long as a training: it is kept in `runs/`. */
async function cachedProbe(
  key: string,
  encoder: TextModel,
  splits: EncodedSplits,
  classes: number,
): Promise<ProbeResult> {
  const path = join(cache, `${key}.json`);
  try {
    const { weights, ...probe } = JSON.parse(await readFile(path, "utf8")) as StoredProbe;
    return { ...probe, weights: Float64Array.from(weights) };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const probe = await linearProbe(encoder, splits, classes, { candidates: CANDIDATES, threads: 1 });
  await mkdir(dirname(path), { recursive: true });
  await atomicWrite(path, JSON.stringify({ ...probe, weights: [...probe.weights] }));
  return probe;
}

type StoredProbe = Omit<ProbeResult, "weights"> & { readonly weights: readonly number[] };

/** @param weights [features, classes], then one bias per class. */
function withClassifier(encoder: TextModel, weights: Float64Array, classes: number): TextModel {
  const { model } = encoder;
  const features = weights.length / classes - 1;
  const g = importGraph(model.graph, model.opsets.get("") ?? OPSET);
  const pooled = meanPooled({ g, output: g.value("last_hidden_state"), attentionMask: g.value("attention_mask") });
  const matrix = Float32Array.from({ length: classes * features }, (_, i) => {
    const [label, feature] = [Math.floor(i / features), i % features];
    return weights[feature * classes + label] as number;
  });
  const w = weightReader(
    g,
    new Map([
      ["classifier.weight", tensorFrom("float32", [classes, features], matrix)],
      ["classifier.bias", tensorFrom("float32", [classes], Float32Array.from(weights.subarray(features * classes)))],
    ]),
  );
  g.output(linear(g, w, "classifier", pooled, features, classes), "logits");
  w.check();
  const graph = g.finish({ name: model.graph.name, keepDropout: true });
  return {
    ...encoder,
    model: toModel(graph, model.opsets.get("") ?? OPSET, model.metadata),
    initialized: ["classifier"],
  };
}
