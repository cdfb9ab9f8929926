import { z } from "zod";
import { defineMethod } from "./method.ts";
import { copyOfModule, replaceWith } from "./replacement.ts";

// 1. Config: nothing but which modules.
export const fullConfig = z.strictObject({});

/**
 * Full fine-tuning of chosen modules: their weights and biases are trained as they are. With only `modulesToSave` given
 * (the head) it is a linear probe. Also what `modulesToSave` of every other method uses. Keys are those of the base model.
 * @example
 * injectAdapter(model, { method: full, config: { modulesToSave: ["classifier"] } }); // linear probe
 */
export const full = defineMethod<object>({
  type: "FULL",
  paper: null,
  kinds: ["linear", "embedding", "norm", "conv"],
  identityAtStart: true,
  neutral: "base",
  config: fullConfig,
  defaultTargets: () => false,
  // 2. Parameters
  parameters: copyOfModule,
  // 3. Forward: the replaced weight and bias are already in y.
  forward: (_, { y }) => y,
  // 4. Delta
  delta: (tensors) => replaceWith(tensors),
  // 5. Keys
  keys: { weight: "weight", bias: "bias" },
});
