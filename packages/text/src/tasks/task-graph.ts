import { type AdaptedGraph, PeftError, type Value } from "@onnx-peft/core";
import type { Head } from "../models/encoder.ts";
import type { TaskGraph } from "./task.ts";

/**
 * The output of an encoder that a task works on: hidden states for tasks without a head, else `logits`.
 * @throws PeftError TASK_GRAPH
 */
export function taskOutput(outputs: readonly Value[], head: Head): Value {
  const named = (name: string): Value | undefined => outputs.find((v) => v.name === name);
  const hidden = named("last_hidden_state") ?? outputs.find((v) => v.name !== "logits" && v.shape.length === 3);
  const output = head.type === "none" ? hidden : named("logits");
  if (output) return output;
  throw new PeftError(
    "TASK_GRAPH",
    `The task needs ${head.type === "none" ? "hidden states" : '"logits"'}; the model's outputs are [${outputs.map((v) => v.name).join(", ")}].`,
    { hint: "Load the model for the task: loadTextModel(source, task.head)." },
  );
}

/**
 * Output and mask of an adapted encoder, as tasks want them.
 * @param head of the task; without it logits count before hidden states.
 * @throws PeftError TASK_GRAPH
 */
export function taskGraph({ g, outputs }: Pick<AdaptedGraph, "g" | "outputs">, head?: Head): TaskGraph {
  const wanted = head ?? (outputs.has("logits") ? { type: "masked-lm" } : { type: "none" });
  return { g, output: taskOutput([...outputs.values()], wanted), attentionMask: g.value("attention_mask") };
}
