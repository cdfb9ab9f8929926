import type { TextTask } from "./task.ts";

/** The input that Poly adapters read a row's task from. */
const POLY_TASKS = "poly.task_ids";

/**
 * A task whose batches also feed which of several tasks each sample belongs to, for methods that route by it (Poly). Graphs
 * without such an input are not affected.
 * @param idOf number of the task that a sample belongs to, from 0.
 * @param input the graph's input; default that of Poly.
 * @example
 * const task = withTaskIds(sequenceClassification({ labels }), (sample) => sample.taskId);
 */
export const withTaskIds = <Sample>(
  task: TextTask<Sample>,
  idOf: (sample: Sample) => number,
  input = POLY_TASKS,
): TextTask<Sample> => ({
  ...task,
  inputs: (samples, padId) => ({
    ...task.inputs(samples, padId),
    [input]: {
      type: "int64",
      dims: [samples.length],
      data: BigInt64Array.from(samples, (sample) => BigInt(idOf(sample))),
    },
  }),
});
