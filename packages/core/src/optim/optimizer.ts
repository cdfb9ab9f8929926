import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { ADAMW_STATE, adamWStep } from "./adamw.ts";
import type { SlotGrowth } from "./grown-entries.ts";
import { type OptimizerConfig, type OptimizerInput, optimizerConfig, type ParameterGroup } from "./optimizer-config.ts";
import { SGD_STATE, sgdStep } from "./sgd.ts";
import { createSlots } from "./slots.ts";

/** Entries marked 1, or all of a tensor. */
export type Held = Uint8Array | "all";

/** An optimiser over a fixed set of tensors, which may grow. */
export interface Optimizer {
  /**
   * Updates every parameter in place. All gradients are checked before the first value changes; nothing is allocated.
   *
   * @param gradients one per parameter, equal lengths; others are refused, so that a misspelled leaf cannot stay untrained.
   * @param learningRateScale the schedule's factor for this step.
   * @param held what keeps value and state as they are, by parameter: entries marked 1, for which bias correction counts all steps, or
   *   the whole tensor, which then does not count the step.
   * @throws PeftError GRADIENT_MISMATCH.
   */
  step(
    gradients: ReadonlyMap<string, Float32Array>,
    learningRateScale?: number,
    held?: ReadonlyMap<string, Held>,
  ): void;
  /**
   * A tensor takes the place of a smaller one. Its old entries keep their state; new ones begin without, and their bias correction
   * counts from here, as for a parameter that joins now.
   */
  grow(growth: SlotGrowth): void;
  /** Updates done so far, restored ones included. */
  stepCount(): number;
  /** A copy of everything needed to go on: `step` and `<parameter>.<state>` (torch's names; "born" where one has grown). */
  state(): Map<string, Float32Array>;
  /** @throws PeftError OPTIMIZER_STATE_MISMATCH, with nothing changed. */
  restore(state: ReadonlyMap<string, Float32Array>): void;
}

/**
 * Makes an AdamW or SGD optimiser; equal to `torch.optim` up to float32 rounding. State costs 8 bytes a parameter for AdamW, 4
 * for SGD with momentum.
 *
 * @param parameters the tensors to train; updated in place, so keep the arrays.
 * @param groups learning rate and weight decay of named parameters; the others take the configuration's.
 * @throws PeftError CONFIG_INVALID, PARAMETER_GROUP_INVALID (unknown name, or one name in two groups).
 * @example
 * const optimizer = createOptimizer({ type: "adamw", learningRate: 3e-4 }, new Map([["A", a]]));
 * optimizer.step(new Map([["A", gradientOfA]]), learningRateAt(step, totalSteps, schedule));
 */
export function createOptimizer(
  config: OptimizerInput,
  parameters: ReadonlyMap<string, Float32Array>,
  groups: readonly ParameterGroup[] = [],
): Optimizer {
  const settings: OptimizerConfig = parseConfig(optimizerConfig, config, "optimizer");
  const stateNames = settings.type === "adamw" ? ADAMW_STATE : settings.momentum > 0 ? SGD_STATE : [];
  const slots = createSlots(parameters, groups, settings, stateNames);

  return {
    step(gradients, learningRateScale = 1, held) {
      for (const slot of slots.list) slots.gradientOf(gradients, slot);
      if (gradients.size !== slots.list.length) {
        const extra = [...gradients.keys()].filter((name) => !parameters.has(name));
        throw new PeftError(
          "GRADIENT_MISMATCH",
          `expected gradients of trained parameters only, received "${extra.join('", "')}".`,
        );
      }
      slots.step.count++;
      for (const slot of slots.list) {
        const gradient = slots.gradientOf(gradients, slot);
        const kept = held?.get(slot.name);
        if (kept === "all") {
          slot.heldSteps++;
          continue;
        }
        const t = slots.step.count - slot.heldSteps;
        for (const { start, end, born, followsSchedule } of slot.ranges) {
          const learningRate = slot.learningRate * (followsSchedule ? learningRateScale : 1);
          if (settings.type === "adamw")
            adamWStep(slot, gradient, t - born, learningRate, settings, kept, [start, end]);
          else sgdStep(slot, gradient, t - born, learningRate, settings, kept, [start, end]);
        }
      }
    },
    grow: slots.grow,
    stepCount: () => slots.step.count,
    state: slots.state,
    restore: slots.restore,
  };
}
