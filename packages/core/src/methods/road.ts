import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import { matrix, multiply, subtract } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { ones, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const roadConfig = z.strictObject({
  /** "road_1": one angle and scale per pair; "road_2": per element; "road_4": four per pair. */
  variant: z.enum(["road_1", "road_2", "road_4"]).default("road_1"),
  /** Elements i and i + groupSize / 2 of each group of the output are a pair. */
  groupSize: z.int().positive().max(65_536).multipleOf(2).default(64),
});
export type RoadConfig = z.output<typeof roadConfig>;

const perOutput = { road_1: 0.5, road_2: 1, road_4: 2 } as const;

/** Index of the angle and scale that each output takes for the diagonal (0) and for its partner (1). */
function indices(outFeatures: number, { variant, groupSize }: RoadConfig, which: 0 | 1): number[] {
  return Array.from({ length: outFeatures }, (_, i) => {
    const [group, place] = [Math.floor(i / groupSize), i % groupSize];
    if (variant === "road_1") return group * (groupSize / 2) + (place % (groupSize / 2));
    if (variant === "road_2") return i;
    return group * 2 * groupSize + which * groupSize + place;
  });
}

/** The partner of each output in its group, and the sign with which it enters. */
function partners(outFeatures: number, { groupSize }: RoadConfig): { place: number[]; sign: number[] } {
  const half = groupSize / 2;
  const isFirst = Array.from({ length: outFeatures }, (_, i) => i % groupSize < half);
  return {
    place: isFirst.map((first, i) => (first ? i + half : i - half)),
    sign: isFirst.map((first) => (first ? -1 : 1)),
  };
}

/** alpha cos theta and alpha sin theta of each output. */
function factors(tensors: ByRole<AdapterTensor>, outFeatures: number, config: RoadConfig): [number[], number[]] {
  const [theta, alpha] = [roleOf(tensors, "theta").data, roleOf(tensors, "alpha").data];
  const of = (which: 0 | 1, f: (x: number) => number): number[] =>
    indices(outFeatures, config, which).map((i) => (alpha[i] as number) * f(theta[i] as number));
  return [of(0, Math.cos), of(1, Math.sin)];
}

/**
 * RoAd: every pair of outputs is rotated and scaled, y'_0 = a cos t · y_0 - a sin t · y_1, y'_1 = a sin t · y_0 + a cos t · y_1. Liao and Monz
 * 2024, arXiv 2409.00119. The bias is rotated too. t = 0, a = 1 at the start. Parameters: out, 2 out or 4 out per site. Merging: R·W, R·c.
 */
export const road = defineMethod<RoadConfig>({
  type: "ROAD",
  paper: "2409.00119",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: roadConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { variant, groupSize }) {
    if (outFeatures % groupSize !== 0) throw sizeError(`groupSize ${groupSize}`, inFeatures, outFeatures);
    const shape = [outFeatures * perOutput[variant]];
    return { theta: { shape, init: zeros }, alpha: { shape, init: ones, neutral: 1 } };
  },
  // 3. Forward
  forward(g, { y, site }, values, config) {
    const { outFeatures } = site;
    const each = (f: "cos" | "sin", which: 0 | 1): Value => {
      const factor = g.mul(roleOf(values, "alpha"), g[f](roleOf(values, "theta")));
      return config.variant === "road_2" ? factor : pick(g, factor, indices(outFeatures, config, which));
    };
    const { place, sign } = partners(outFeatures, config);
    const partner = g.mul(g.gather(y, g.constant("int64", place), y.shape.length - 1), g.constant("float32", sign));
    return g.add(g.mul(y, each("cos", 0)), g.mul(partner, each("sin", 1)));
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    const { outFeatures } = site;
    const [first, second] = factors(tensors, outFeatures, config);
    const { place, sign } = partners(outFeatures, config);
    const rotation = matrix(outFeatures, outFeatures);
    for (let i = 0; i < outFeatures; i++) {
      rotation.data[i * outFeatures + i] = first[i] as number;
      rotation.data[i * outFeatures + (place[i] as number)] = (sign[i] as number) * (second[i] as number);
    }
    const w = frozenMatrix(site, frozen);
    const weight = addToWeight(site, subtract(multiply(rotation, w), w));
    if (!site.hasBias) return { weight };
    const c = matrix(outFeatures, 1, frozen.bias());
    return { weight, bias: { add: Float32Array.from(subtract(multiply(rotation, c), c).data) } };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { theta: "road_theta", alpha: "road_alpha" },
});

const pick = (g: Builder, values: Value, places: readonly number[]): Value =>
  g.gather(values, g.constant("int64", places));
