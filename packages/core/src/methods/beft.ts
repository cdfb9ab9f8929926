import { z } from "zod";
import { roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config: nothing but which modules.
export const beftConfig = z.strictObject({});

/**
 * BEFT: a bias added to the output of the value projections, y' = y + b, b [1, out] = 0. Parameters: out per site. Unlike BitFit
 * the bias is the adapter's own; merging needs modules that have a bias.
 */
export const beft = defineMethod<object>({
  type: "BEFT",
  paper: "2509.15974",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: beftConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ outFeatures }) => ({ b: { shape: [1, outFeatures], init: zeros } }),
  // 3. Forward
  forward: (g, { y, site }, values) => g.add(y, g.reshape(roleOf(values, "b"), [site.outFeatures])),
  // 4. Delta
  delta: (tensors) => ({ bias: { add: roleOf(tensors, "b").data } }),
  // 5. Keys
  keys: { b: "beft_bias" },
});
