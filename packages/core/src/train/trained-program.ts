import type { TrainOptions } from "./options.ts";
import { withPooledMasks } from "./pooled-masks.ts";
import type { TrainingProgram } from "./program.ts";
import { withRecomputation } from "./recompute.ts";

/** The program as an engine runs it with these options. */
export function trainedProgram(
  program: TrainingProgram,
  { recompute, device }: Pick<TrainOptions, "recompute" | "device">,
): TrainingProgram {
  const kept = recompute === "blocks" ? withRecomputation(program) : program;
  return device === "cpu" ? kept : withPooledMasks(kept, device);
}
