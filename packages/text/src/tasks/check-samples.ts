import { PeftError } from "@onnx-peft/core";
import { maxTokensOf } from "../models/text-inputs.ts";
import type { TextTask } from "./task.ts";

const MAX_SHOWN = 10;

/**
 * Checks samples before hours are spent on them: texts that are empty or longer than the encoder has positions for, and
 * whatever the task objects to. Costs one look at each sample.
 * @param config of the model.
 * @param name of the split, for the message.
 * @param judged also check labels.
 * @throws PeftError NO_DATA where there is nothing to judge; TASK_SAMPLE listing the first ten problems and the number of all.
 */
export function checkSamples<Sample>(
  task: TextTask<Sample>,
  samples: readonly Sample[],
  config: Readonly<Record<string, unknown>>,
  { name, judged }: { readonly name: string; readonly judged: boolean },
): void {
  if (judged && samples.length === 0)
    throw new PeftError("NO_DATA", `Expected at least one ${name} sample, received none.`);
  const maxTokens = maxTokensOf(config) ?? Number.POSITIVE_INFINITY;
  const problems: string[] = [];
  let count = 0;
  samples.forEach((sample, i) => {
    const lengths = task.textsOf(sample).map(({ inputIds }) => inputIds.length);
    const [longest, shortest] = [Math.max(...lengths), Math.min(...lengths)];
    let problem = judged ? task.problemOf(sample) : null;
    if (longest > maxTokens) problem = `it has ${longest} tokens, and the model takes ${maxTokens}`;
    if (shortest < 1) problem = "it has no tokens";
    if (problem === null) return;
    if (problems.length < MAX_SHOWN) problems.push(`${name} sample ${i}: ${problem}`);
    count++;
  });
  if (count === 0) return;
  const more = count > problems.length ? `; and ${count - problems.length} more` : "";
  throw new PeftError("TASK_SAMPLE", `Expected samples that fit the task, received ${problems.join("; ")}${more}.`, {
    hint: "Cut texts with maxLength when they are encoded; build the label map over all splits.",
    details: { problems, count },
  });
}
