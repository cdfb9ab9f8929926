/**
 * A process that trains in the folder it is given and tells its parent about every event and the result. Tests kill it
 * at any time and start it again.
 */
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import { type TrainEvent, type TrainingResult, train } from "../trainer.ts";
import { tinyEvaluation, tinyLoss, tinyRun } from "./tiny-task.ts";

/** What the process sends. */
export type KillableMessage =
  | { readonly type: "event"; readonly event: TrainEvent }
  | { readonly type: "result"; readonly result: KillableResult };

export type KillableResult = Pick<
  TrainingResult,
  "reason" | "steps" | "best" | "losses" | "evaluations" | "paddingShare" | "parameters"
>;

/** Dropout, shuffling over epochs, a schedule, evaluations, the best parameters and early stopping: all that has state. */
export const killableRun = (folder: string, isolation: "process" | "inline") =>
  tinyRun({
    folder,
    dropout: 0.2,
    evaluation: tinyEvaluation(),
    // NaN must survive a checkpoint too.
    evaluate: async (run) => ({ ...(await tinyLoss(run)), undefinedShare: Number.NaN }),
    options: {
      epochs: 12,
      evalSteps: 3,
      saveSteps: 2,
      earlyStoppingPatience: 3,
      maxGradNorm: 1,
      schedule: { type: "cosine", warmupRatio: 0.1 },
      isolation,
      optimizer: { type: "adamw", learningRate: 0.05, weightDecay: 0.01 },
    },
  });

export const resultOf = (result: TrainingResult): KillableResult => {
  const { reason, steps, best, losses, evaluations, paddingShare, parameters } = result;
  return { reason, steps, best, losses, evaluations, paddingShare, parameters };
};

/** All parameters in one list. */
export const valuesOf = (parameters: Readonly<Record<string, RuntimeTensor>>): number[] =>
  Object.values(parameters).flatMap(({ data }) => Array.from(data as Float32Array));

const [, , folder, role] = process.argv;
if (role === "killable-run" && folder !== undefined) {
  const send = (message: KillableMessage) => process.send?.(message);
  const result = await train({ ...killableRun(folder, "process"), onEvent: (event) => send({ type: "event", event }) });
  send({ type: "result", result: resultOf(result) });
  process.disconnect();
}
