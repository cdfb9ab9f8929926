import { z } from "zod";
import { PeftError } from "../errors.ts";
import { ldu } from "../linalg/lu.ts";
import { columnRange, multiply, rowRange, scale, scaleRows, subtract } from "../linalg/matrix.ts";
import type { Random } from "../random/random.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod, type WitnessInput } from "./method.ts";

// 1. Config
export const lolduConfig = z.strictObject({
  /** Pivots that are trained. */
  r: z.int().positive().max(65_536).default(256),
  /** The update is multiplied by alpha / r; null: by 1. */
  alpha: z.number().nullable().default(null),
  /** Start of the pivots. "lu", "uniform", "normal" and "constant" leave the model as it is, the others change it. */
  initMethod: z.enum(["lu", "uniform", "normal", "constant", "s_uniform", "s_normal", "ones", "zeros"]).default("lu"),
});
export type LolduConfig = z.output<typeof lolduConfig>;

const scaleOf = ({ r, alpha }: LolduConfig): number => (alpha === null ? 1 : alpha / r);

const keepsModel = ({ initMethod }: LolduConfig): boolean =>
  ["lu", "uniform", "normal", "constant"].includes(initMethod);

/** Start values of the pivots, and what the residual is made with. */
function startOf(d: Float64Array, config: LolduConfig, random: Random): { z: Float32Array; z0: Float32Array } {
  const mean = d.reduce((sum, v) => sum + v, 0) / d.length;
  const deviation = Math.sqrt(d.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, d.length - 1));
  const z = new Float32Array(d.length);
  const filled: Readonly<Record<LolduConfig["initMethod"], () => Float32Array>> = {
    lu: () => Float32Array.from(d),
    uniform: () => random.fillUniform(z, -Math.abs(mean) / 2, Math.abs(mean) / 2),
    normal: () => random.fillNormal(z, mean, deviation),
    constant: () => z.fill(mean),
    s_uniform: () => random.fillUniform(z, -1, 1),
    s_normal: () => random.fillNormal(z, 0, 1),
    ones: () => z.fill(1),
    zeros: () => z,
  };
  const start = filled[config.initMethod]();
  return { z: start, z0: keepsModel(config) ? start.slice() : Float32Array.from(d) };
}

/**
 * LoLDU: with W = P·L·diag(d)·U only the first r pivots are trained: W' = W + s P·L_r·diag(z - z0)·U_r. Shi et al. 2024, arXiv 2410.13618. Partial
 * pivoting; L has a unit diagonal, U too. The published form keeps a residual W - s P·L_r·diag(z0)·U_r in the place of W; this is the same
 * function over the untouched base. Parameters: r per site. The factors are made from the base again when a file is read.
 */
export const loldu = defineMethod<LolduConfig>({
  type: "LOLDU",
  paper: "2410.13618",
  kinds: ["linear"],
  identityAtStart: keepsModel,
  neutral: "empty",
  config: lolduConfig,
  defaultTargets: ({ kind }) => kind === "linear",
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { r, initMethod }) {
    const most = Math.min(inFeatures, outFeatures);
    if (r > most) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `LoLDU trains ${r} pivots; "${name}" [${outFeatures}, ${inFeatures}] has ${most}.`,
        {
          hint: "Lower r.",
        },
      );
    }
    const frozen = { init: zeros, trainable: false } as const;
    return {
      z: { shape: [r], init: zeros },
      z0: {
        shape: [r],
        ...frozen,
        ...(initMethod === "lu" ? { witness: ({ made }: WitnessInput) => made("z0").data } : {}),
      },
      L: { shape: [outFeatures, r], ...frozen, saved: false },
      U: { shape: [r, inFeatures], ...frozen, saved: false },
    };
  },
  start({ site, config, frozen, random }) {
    const { l, d, u, permutation } = ldu(frozenMatrix(site, frozen));
    const { r } = config;
    const left = columnRange(l, 0, r);
    // Row i of P·L is the row that elimination had taken from place permutation[i].
    const rows = new Float32Array(site.outFeatures * r);
    permutation.forEach((from, i) => {
      for (let k = 0; k < r; k++) rows[from * r + k] = left.data[i * r + k] as number;
    });
    return { ...startOf(d.slice(0, r), config, random), L: rows, U: Float32Array.from(rowRange(u, 0, r).data) };
  },
  // 3. Forward
  forward(g, { x, y }, values, config) {
    const h = g.fusedMatMul(x, roleOf(values, "U"), { transB: true, alpha: scaleOf(config) }); // [..., r]
    const shifted = g.mul(h, g.sub(roleOf(values, "z"), roleOf(values, "z0")));
    return g.add(y, g.fusedMatMul(shifted, roleOf(values, "L"), { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, site) {
    const shift = subtract(toMatrix(roleOf(tensors, "z")), toMatrix(roleOf(tensors, "z0"))).data;
    const product = multiply(toMatrix(roleOf(tensors, "L")), scaleRows(toMatrix(roleOf(tensors, "U")), shift));
    return { weight: addToWeight(site, scale(product, scaleOf(config))) };
  },
  // The factors are those of the weight it was made for.
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { z: "loldu_z", z0: "loldu_z0", L: "loldu_L", U: "loldu_U" },
});
