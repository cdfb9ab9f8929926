import { z } from "zod";
import { scaleColumns, scaleRows, subtract } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { ones } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const ia3Config = z.strictObject({
  /** Those of the target modules whose input is scaled and not their output: the second linear of the MLP. Name endings. */
  feedforwardModules: z.array(z.string().min(1).max(1024)).max(10_000).default([]),
});
export type Ia3Config = z.output<typeof ia3Config>;

const isFeedforward = (name: string, { feedforwardModules }: Ia3Config): boolean =>
  feedforwardModules.some((ending) => name === ending || name.endsWith(`.${ending}`));

/**
 * IA3: learned scales of activations. Liu et al. 2022, arXiv 2205.05638.
 *   output scaled: y' = l · (x·Wᵀ + c), l [out, 1];   input scaled (feed-forward): y' = (x · l)·Wᵀ + c, l [1, in].
 * Parameters: out (or in) per site. Merging multiplies the weight, and the bias where the output is scaled.
 * @example
 * injectAdapter(model, { method: ia3, config: { targetModules: ["key", "value", "output.dense"], feedforwardModules: ["output.dense"] } });
 */
export const ia3 = defineMethod<Ia3Config>({
  type: "IA3",
  paper: "2205.05638",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: ia3Config,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ name, inFeatures, outFeatures }, config) => ({
    l: { shape: isFeedforward(name, config) ? [1, inFeatures] : [outFeatures, 1], init: ones, neutral: 1 },
  }),
  // 3. Forward
  forward(g, { x, y, site, base }, values, config) {
    const l = roleOf(values, "l");
    return isFeedforward(site.name, config)
      ? base(g.mul(x, g.reshape(l, [site.inFeatures])))
      : g.mul(y, g.reshape(l, [site.outFeatures]));
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    const { data: l } = roleOf(tensors, "l");
    const w = frozenMatrix(site, frozen);
    if (isFeedforward(site.name, config)) return { weight: addToWeight(site, subtract(scaleColumns(w, l), w)) };
    const weight = addToWeight(site, subtract(scaleRows(w, l), w));
    return site.hasBias
      ? { weight, bias: { add: frozen.bias().map((c, i) => ((l[i] as number) - 1) * c) } }
      : { weight };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { l: "ia3_l" },
});
