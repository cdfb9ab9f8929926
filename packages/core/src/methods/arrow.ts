import { z } from "zod";
import { roleOf } from "./dense.ts";
import { checkTopK, expertFactors, expertKeys, largest, weighedExperts } from "./experts.ts";
import { normal } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const arrowConfig = z.strictObject({
  /** Number of LoRA adapters that are routed over. */
  experts: z.int().positive().max(4096).default(3),
  /** Their rank; shorter ones are filled up with zeros. */
  r: z.int().positive().max(65_536).default(8),
  /** Experts that a token uses. */
  topK: z.int().positive().default(3),
  /** Scores are divided by it before the softmax over the chosen experts. */
  routerTemperature: z.number().positive().default(1),
  /** Go on training the experts' factors, with the routes as they are. */
  trainExperts: z.boolean().default(false),
});
export type ArrowConfig = z.output<typeof arrowConfig>;

/**
 * Arrow routing over LoRA adapters: every token chooses, at every module, those whose change it would excite most. Ostapenko et al. 2024,
 * arXiv 2405.11157. With the prototype p_e, the top right singular vector of B_e·A_e (a direction of the module's input):
 *   s_e = |x·p_e|, w = softmax over the topK largest of s / T, 0 elsewhere, y = x·Wᵀ + sum_e w_e·scale_e·x·A_eᵀ·B_eᵀ.
 * Nothing is trained: `arrowAdapter` makes one of trained LoRA adapters. Shapes: A [experts, r, in], B [experts, out, r] with the
 * scales, prototypes [experts, in].
 */
export const arrow = defineMethod<ArrowConfig>({
  type: "ARROW",
  paper: "2405.11157",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: arrowConfig,
  defaultTargets: null,
  // 2. Parameters: B starts at zero, a prototype anywhere.
  parameters(site, { experts, r, topK, trainExperts }) {
    checkTopK(topK, experts);
    const init = normal(1 / Math.sqrt(site.inFeatures));
    return {
      ...expertFactors(site, { experts, r, trainable: trainExperts }),
      prototypes: { shape: [experts, site.inFeatures], init, trainable: false },
    };
  },
  // 3. Forward
  forward(g, { x, y }, values, { topK, routerTemperature }) {
    const scores = g.abs(g.fusedMatMul(x, roleOf(values, "prototypes"), { transB: true })); // [..., experts]
    const weights = largest(g, routerTemperature === 1 ? scores : g.div(scores, routerTemperature), topK, "softmax");
    return g.add(y, weighedExperts(g, x, weights, roleOf(values, "A"), roleOf(values, "B")));
  },
  // 4. Delta
  delta: null,
  noDelta: "which experts act depends on the token",
  // 5. Keys
  keys: { ...expertKeys, prototypes: "experts.prototypes" },
});
