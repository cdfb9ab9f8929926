import {
  type Adapter,
  at,
  buildAdapterProgram,
  type Feeds,
  type Int8Plan,
  injectAdapter,
  type Model,
  methodOf,
  onnxruntimeNode,
  type RuntimeTensor,
} from "@onnx-peft/core";
import { type ClassificationSample, type TextTask, taskGraph } from "@onnx-peft/text";

/** A model, the adapter at which gradients are taken, and micro-batches of a task. */
export interface GradientSetting {
  readonly model: Model;
  readonly adapter: Adapter;
  readonly task: TextTask<ClassificationSample>;
  readonly batches: readonly Feeds[];
}

/** Feeds of a task for samples that form one micro-batch. */
export function feedsOf(
  task: TextTask<ClassificationSample>,
  samples: readonly ClassificationSample[],
  padId: number,
): Feeds {
  const inputs = task.inputs(samples, padId);
  return { ...inputs, ...task.labels(samples, at(inputs.input_ids.dims, 1)) };
}

/** The float32 graph with the adapter and its loss; dropout is off. */
export function adaptedLoss({ model, adapter, task }: GradientSetting) {
  const adapted = injectAdapter(model, { method: methodOf(adapter.type), config: adapter.config });
  return { adapted, loss: task.loss(taskGraph(adapted, task.head)) };
}

export const adapterValuesOf = ({ adapter }: GradientSetting): Record<string, RuntimeTensor> =>
  Object.fromEntries([...adapter.tensors].map(([name, { dims, data }]) => [name, { type: "float32", dims, data }]));

/** Gradients of the adapter, summed over the micro-batches, by parameter; with a plan in 8-bit arithmetic. */
export async function adapterGradients(
  setting: GradientSetting,
  plan: Int8Plan | null,
): Promise<Map<string, Float32Array>> {
  const { adapted, loss } = adaptedLoss(setting);
  const program = buildAdapterProgram(adapted, loss, plan ? { int8: plan } : {});
  const { bytes, externalDataFolder } = program.graph;
  const session = await onnxruntimeNode.open(bytes, externalDataFolder === undefined ? {} : { externalDataFolder });
  const sums = new Map<string, Float32Array>();
  try {
    for (const batch of setting.batches) {
      const all = { ...batch, ...adapterValuesOf(setting) };
      const feeds = Object.fromEntries(Object.entries(all).filter(([name]) => session.inputNames.includes(name)));
      const outputs = await session.run(feeds);
      for (const name of program.parameters) {
        const part = outputs[`grad:${name}`]?.data as Float32Array;
        const sum = sums.get(name) ?? new Float32Array(part.length);
        part.forEach((v, i) => {
          sum[i] = (sum[i] ?? 0) + v;
        });
        sums.set(name, sum);
      }
    }
    return sums;
  } finally {
    await session.close();
  }
}

/** Cosine of the angle between two gradients over the parameters that `counts` chooses. */
export function cosine(
  a: ReadonlyMap<string, Float32Array>,
  b: ReadonlyMap<string, Float32Array>,
  counts: (name: string) => boolean = () => true,
): number {
  let [dot, ofA, ofB] = [0, 0, 0];
  for (const [name, x] of a) {
    const y = b.get(name);
    if (!y || !counts(name)) continue;
    for (let i = 0; i < x.length; i++) {
      const [p, q] = [x[i] as number, y[i] as number];
      dot += p * q;
      ofA += p * p;
      ofB += q * q;
    }
  }
  return dot / Math.sqrt(ofA * ofB);
}
