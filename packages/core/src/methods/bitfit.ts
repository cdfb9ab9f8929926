import { z } from "zod";
import { defineMethod } from "./method.ts";
import { copyOf, replaceWith } from "./replacement.ts";

// 1. Config: nothing but which modules.
export const bitfitConfig = z.strictObject({});

/**
 * BitFit: trains the biases that the model has, and nothing else. Ben Zaken et al. 2021, arXiv 2106.10199. A bias is never
 * invented: modules without one are left out. Without `targetModules` all linear, norm and convolution biases are trained
 * (BERT-base without head: 102,912). `peft` has no such type: files say BITFIT and hold `<module>.bias`, the whole new bias.
 */
export const bitfit = defineMethod<object>({
  type: "BITFIT",
  paper: "2106.10199",
  kinds: ["linear", "norm", "conv"],
  identityAtStart: true,
  neutral: "base",
  config: bitfitConfig,
  defaultTargets: (site) => site.hasBias,
  refuses: (site) => (site.hasBias ? null : "it has no bias"),
  // 2. Parameters
  parameters: (site) => ({ bias: copyOf(site, "bias") }),
  // 3. Forward: the replaced bias is already in y.
  forward: (_, { y }) => y,
  // 4. Delta
  delta: (tensors) => replaceWith(tensors),
  // 5. Keys
  keys: { bias: "bias" },
});
