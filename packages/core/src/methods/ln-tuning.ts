import { z } from "zod";
import { defineMethod } from "./method.ts";
import { copyOfModule, replaceWith } from "./replacement.ts";

// 1. Config: nothing but which modules.
export const lnTuningConfig = z.strictObject({});

/**
 * LN tuning: trains full copies of the weights and biases of normalisation layers. Zhao et al. 2023, arXiv 2312.11420.
 * Without `targetModules` all norms of the model. Difference to `peft`: there, `targetModules` may also name other
 * modules; here that is what `modulesToSave` is for.
 */
export const lnTuning = defineMethod<object>({
  type: "LN_TUNING",
  paper: "2312.11420",
  kinds: ["norm"],
  identityAtStart: true,
  neutral: "base",
  config: lnTuningConfig,
  defaultTargets: () => true,
  // 2. Parameters
  parameters: copyOfModule,
  // 3. Forward: the replaced weight and bias are already in y.
  forward: (_, { y }) => y,
  // 4. Delta
  delta: (tensors) => replaceWith(tensors),
  // 5. Keys
  keys: { weight: "ln_tuning_layers.weight", bias: "ln_tuning_layers.bias" },
});
