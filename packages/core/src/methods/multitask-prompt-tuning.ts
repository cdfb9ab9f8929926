import { z } from "zod";
import { roleOf } from "./dense.ts";
import { normal } from "./init.ts";
import { defineMethod, type ParameterSpec } from "./method.ts";
import { withPrompt } from "./prompt.ts";
import { promptKey } from "./prompt-files.ts";
import { promptFields, promptStart } from "./prompt-tuning.ts";

// 1. Config
export const multitaskPromptTuningConfig = z.strictObject({
  ...promptFields,
  /** Tasks that share the prompt. With more than one, every row of a batch says which one it is of. */
  numTasks: z.int().positive().max(65_536).default(1),
  /** Rank of a task's own factor. */
  numRanks: z.int().positive().max(65_536).default(1),
});
export type MultitaskPromptTuningConfig = z.output<typeof multitaskPromptTuningConfig>;

const keys: Readonly<Record<string, string>> = {
  prompt: promptKey,
  columns: "prefix_task_cols",
  rows: "prefix_task_rows",
};

/**
 * Multitask prompt tuning: all tasks share a prompt P [v, width], and each multiplies it entry by entry by a matrix of low rank of its own. Wang et
 * al. 2023, arXiv 2303.02861; peft's MULTITASK_PROMPT_TUNING. P_k = P ∘ (C_k R_k), C [tasks, v, r], R [tasks, r, width], both N(0, 0.02²). Rows of a batch
 * name their tasks in "multitask_prompt_tuning.task_ids" [batch], unless there is one task only.
 */
export const multitaskPromptTuning = defineMethod<MultitaskPromptTuningConfig>({
  type: "MULTITASK_PROMPT_TUNING",
  paper: "2303.02861",
  kinds: ["tokens"],
  identityAtStart: false,
  neutral: "empty",
  config: multitaskPromptTuningConfig,
  defaultTargets: () => true,
  wholeModel: true,
  virtualTokens: { as: "sequence", role: () => "prompt" },
  rowInputs: ({ numTasks }) => (numTasks > 1 ? { taskIds: { type: "int64", shape: [] } } : {}),
  // 2. Parameters
  parameters: () => ({}),
  shared([site], { numVirtualTokens: v, numTasks, numRanks: r }): Record<string, ParameterSpec> {
    const width = site?.outFeatures ?? 0;
    return {
      prompt: { shape: [v, width], free: ["tokens", null], init: normal(1) },
      columns: { shape: [numTasks, v, r], free: [null, "tokens", "rank"], init: normal(0.02) },
      rows: { shape: [numTasks, r, width], free: [null, "rank", null], init: normal(0.02) },
    };
  },
  start(input) {
    const prompt = promptStart(input);
    return prompt ? { prompt } : {};
  },
  // 3. Forward
  forward(g, { y, rows: perRow }, values) {
    const { taskIds } = perRow;
    const ofRow = (role: string) =>
      taskIds ? g.gather(roleOf(values, role), taskIds) : g.squeeze(roleOf(values, role), [0]);
    const factor = g.matMul(ofRow("columns"), ofRow("rows")); // [v, width] or [batch, v, width]
    return withPrompt(g, y, g.mul(roleOf(values, "prompt"), factor));
  },
  // 4. Delta
  delta: null,
  noDelta: "vectors before the words of a sequence are no change of a weight",
  noMixedBatch: "sequences of one batch would differ in length",
  // 5. Keys
  keys: {},
  sharedKeys: keys,
  peft: { unwritten: ["initTokens"] },
});
