import {
  accuracy,
  buildEvaluationProgram,
  createEngineProcess,
  importGraph,
  type Outputs,
  planMicroBatches,
} from "@onnx-peft/core";
import { type EncodedText, meanPooled, padBatch, type TextModel } from "@onnx-peft/text";
import { fitLogisticRegression, type LogisticRegression } from "../baselines/logistic-regression.ts";
import type { SparseRows } from "../baselines/tf-idf.ts";

export type LabelledText = EncodedText & { readonly label: number };

export interface EncodedSplits {
  readonly train: readonly LabelledText[];
  readonly validation: readonly LabelledText[];
  readonly test: readonly LabelledText[];
}

export interface ProbeResult {
  readonly validationAccuracy: number;
  readonly testAccuracy: number;
  readonly trainableParameters: number;
  /** [features, classes], then one bias per class. */
  readonly weights: Float64Array;
}

export interface ProbeOptions {
  /** Inverse strengths of the penalty that are tried, each from where the last one ended. Default 10, 100 and 1,000. */
  readonly candidates?: readonly number[];
  /** Threads of the engine; default: its own choice. */
  readonly threads?: number;
}

const FORWARD_TOKENS = 1024;

/**
 * The frozen encoder with a linear head: mean-pooled token states and multinomial logistic regression, the strength of its
 * penalty chosen on the validation split.
 * @param encoder a model without a head.
 */
export async function linearProbe(
  encoder: TextModel,
  splits: EncodedSplits,
  classes: number,
  { candidates = [10, 100, 1000], threads }: ProbeOptions = {},
): Promise<ProbeResult> {
  const g = importGraph(encoder.model.graph, encoder.model.opsets.get("") ?? 21);
  const pooled = meanPooled({ g, output: g.value("last_hidden_state"), attentionMask: g.value("attention_mask") });
  const engine = await createEngineProcess({
    evaluation: buildEvaluationProgram(g, { pooled }, []),
    parameters: {},
    seed: 0,
    ...(threads === undefined ? {} : { threads }),
  });
  try {
    const embed = (texts: readonly LabelledText[]): Promise<SparseRows> =>
      embedAll(texts, (feeds) => engine.evaluate(feeds));
    const [train, validation, test] = [
      await embed(splits.train),
      await embed(splits.validation),
      await embed(splits.test),
    ];
    const labelsOf = (texts: readonly LabelledText[]): Int32Array => Int32Array.from(texts, (t) => t.label);
    let best: { model: LogisticRegression; score: number } | null = null;
    let before: LogisticRegression | undefined;
    for (const c of candidates) {
      const start = before ? { start: before.weights } : {};
      const model = fitLogisticRegression(train, labelsOf(splits.train), classes, { c, ...start });
      before = model;
      const score = accuracy(model.predict(validation), labelsOf(splits.validation));
      if (!best || score > best.score) best = { model, score };
    }
    if (!best) throw new RangeError("expected at least one candidate for C");
    return {
      validationAccuracy: best.score,
      testAccuracy: accuracy(best.model.predict(test), labelsOf(splits.test)),
      trainableParameters: best.model.weights.length,
      weights: best.model.weights,
    };
  } finally {
    await engine.close();
  }
}

/** Dense rows in the layout the regression takes: every column present. */
async function embedAll(
  texts: readonly LabelledText[],
  run: (feeds: ReturnType<typeof padBatch>) => Promise<Outputs>,
): Promise<SparseRows> {
  const plan = planMicroBatches(
    texts.map((t) => t.inputIds.length),
    { maxTokens: FORWARD_TOKENS },
  );
  let columns = 0;
  let values = new Float64Array();
  for (const indices of plan.runs) {
    const { pooled } = await run(
      padBatch(
        Array.from(indices, (i) => texts[i] as LabelledText),
        0,
      ),
    );
    const data = pooled?.data as Float32Array;
    columns = data.length / indices.length;
    if (values.length === 0) values = new Float64Array(texts.length * columns);
    indices.forEach((index, row) => {
      values.set(data.subarray(row * columns, (row + 1) * columns), index * columns);
    });
  }
  return {
    rows: texts.length,
    columns,
    rowStarts: Int32Array.from({ length: texts.length + 1 }, (_, i) => i * columns),
    columnIds: Int32Array.from({ length: values.length }, (_, i) => i % columns),
    values,
  };
}
