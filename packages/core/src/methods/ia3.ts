import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { type Matrix, matrixFrom, scaleRows, subtract } from "../linalg/matrix.ts";
import { perChannel, placesOf, refusesAxes } from "./convolution.ts";
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

/** W with its input channels scaled: those of a group are the columns of the group's rows. */
function scaleInputs(w: Matrix, l: ArrayLike<number>, site: SiteShape): Matrix {
  const [places, channels] = [placesOf(site), site.weightShape[site.fanInFanOut ? 0 : 1] ?? 1];
  const rowsOfGroup = w.rows / (site.window?.groups ?? 1);
  return matrixFrom(w.rows, w.columns, (row, column) => {
    const channel = Math.floor(row / rowsOfGroup) * channels + Math.floor(column / places);
    return (w.data[row * w.columns + column] as number) * (l[channel] as number);
  });
}

/**
 * IA3: learned scales of activations. Liu et al. 2022, arXiv 2205.05638.
 *   output scaled: y' = l · (x·Wᵀ + c), l [out, 1];   input scaled (feed-forward): y' = (x · l)·Wᵀ + c, l [1, in].
 * At convolutions of two and three axes channels are scaled, l [1, out or in, 1, ...]. Parameters: out (or in) per site. Merging multiplies the weight, and the bias where the output is scaled.
 * @example
 * injectAdapter(model, { method: ia3, config: { targetModules: ["key", "value", "output.dense"], feedforwardModules: ["output.dense"] } });
 */
export const ia3 = defineMethod<Ia3Config>({
  type: "IA3",
  paper: "2205.05638",
  kinds: ["linear", "conv"],
  identityAtStart: true,
  neutral: "empty",
  config: ia3Config,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [2, 3]),
  // 2. Parameters
  parameters(site, config) {
    const { name, kind, inFeatures, outFeatures, weightShape } = site;
    const scalesInput = isFeedforward(name, config);
    const channels = scalesInput ? inFeatures : outFeatures;
    const linear = scalesInput ? [1, channels] : [channels, 1];
    const shape = kind === "conv" ? [1, channels, ...weightShape.slice(2).map(() => 1)] : linear;
    return { l: { shape, init: ones, neutral: 1 } };
  },
  // 3. Forward
  forward(g, { x, y, site, base }, values, config) {
    const l = roleOf(values, "l");
    return isFeedforward(site.name, config)
      ? base(g.mul(x, perChannel(g, l, site.inFeatures, site)))
      : g.mul(y, perChannel(g, l, site.outFeatures, site));
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    const { data: l } = roleOf(tensors, "l");
    const w = frozenMatrix(site, frozen);
    if (isFeedforward(site.name, config)) return { weight: addToWeight(site, subtract(scaleInputs(w, l, site), w)) };
    const weight = addToWeight(site, subtract(scaleRows(w, l), w));
    return site.hasBias
      ? { weight, bias: { add: frozen.bias().map((c, i) => ((l[i] as number) - 1) * c) } }
      : { weight };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { l: "ia3_l" },
});
