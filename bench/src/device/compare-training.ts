import { fileURLToPath } from "node:url";
import type { Device, Placement } from "@onnx-peft/core";
import { loraSettings } from "@onnx-peft/examples/quickstart/compare";
import { glossClassification } from "@onnx-peft/examples/wordnet/gloss-classification";
import { encodeRows, fineTune, loadTextModel, loadTokenizer, sequenceClassification } from "@onnx-peft/text";

/** One side of the comparison. */
export interface TrainedOn {
  readonly device: Device;
  readonly losses: readonly number[];
  readonly accuracy: number;
  readonly seconds: number;
  readonly placement?: Placement;
}

export interface TrainingComparison {
  readonly cpu: TrainedOn;
  readonly device: TrainedOn;
  /** Largest relative difference of the losses of a step. */
  readonly difference: number;
}

/**
 * Samples of one length: a GPU takes larger micro-batches than a CPU and pads where a CPU starts another one, and masks of dropout depend on
 * the micro-batch.
 */
const TOKENS = 16;

/** The quickstart's model, data and settings at reduced size, on the CPU and on a device: the same batches and dropout masks. */
export async function compareTraining(device: Device, samples: number, epochs: number): Promise<TrainingComparison> {
  const data = glossClassification({ seed: 1, train: samples, validation: 50, test: 100 });
  const source = { model: fileURLToPath(new URL("../../../apps/examples/models/wordnet-bert", import.meta.url)) };
  const tokenizer = await loadTokenizer(source);
  const encode = async (rows: readonly { text: string; label: string }[]) =>
    (await encodeRows(tokenizer, [...rows], { maxLength: TOKENS }))
      .map((row, i) => ({ ...row, label: data.labels.indexOf(rows[i]?.label ?? "") }))
      .filter((row) => row.inputIds.length === TOKENS);
  const [train, test] = [await encode(data.train), await encode(data.test)];
  const { adapter, learningRate, batchSize, labelSmoothing } = loraSettings;
  const task = sequenceClassification({ labels: data.labels, labelSmoothing });
  const trainOn = async (where: Device): Promise<TrainedOn> => {
    const started = performance.now();
    let placement: Placement | undefined;
    const tuned = await fineTune({
      model: await loadTextModel(source, task.head, 1),
      task,
      adapter,
      train,
      options: {
        epochs,
        batchSize,
        device: where,
        maxGradNorm: 1,
        optimizer: { type: "adamw", learningRate, weightDecay: 0.01 },
        schedule: { type: "linear", warmupRatio: 0.06 },
      },
      onEvent: (event) => {
        if (event.type === "device") placement = event;
      },
    });
    try {
      const { [task.mainMetric]: accuracy = Number.NaN } = await tuned.evaluate(test);
      const seconds = (performance.now() - started) / 1000;
      const { losses } = tuned.training;
      return { device: where, losses, accuracy, seconds, ...(placement ? { placement } : {}) };
    } finally {
      await tuned.close();
    }
  };
  const [cpu, other] = [await trainOn("cpu"), await trainOn(device)];
  const difference = Math.max(
    ...cpu.losses.map((loss, i) => Math.abs((other.losses[i] ?? Number.NaN) - loss) / Math.abs(loss)),
  );
  return { cpu, device: other, difference };
}
