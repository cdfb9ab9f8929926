import { z } from "zod";
import { PeftError } from "../errors.ts";
import { torchRandom } from "../random/torch-random.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { flatPositions, positionsFrom, scatterPositions } from "./positions.ts";

// 1. Config
export const shiraConfig = z.strictObject({
  /** The number of trained entries is r (in + out): that of LoRA with this rank. */
  r: z.int().positive().max(65_536).default(32),
  maskType: z.enum(["random"]).default("random"),
  /** Seed of the positions, as `torch.manual_seed` takes it; without one every module draws its own. */
  randomSeed: z.int().min(0).nullable().default(null),
});
export type ShiraConfig = z.output<typeof shiraConfig>;

/**
 * SHiRA: trains r (in + out) entries of the weight, at random positions that are fixed and saved. Bhardwaj et al. 2024,
 * arXiv 2406.13175. W' = W + scatter(values, positions), values start at zero. The forward scatters into a dense [out, in];
 * backward gathers from the weight's gradient.
 */
export const shira = defineMethod<ShiraConfig>({
  type: "SHIRA",
  paper: "2406.13175",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: shiraConfig,
  defaultTargets: null,
  refuses: ({ inFeatures, outFeatures }) =>
    inFeatures * outFeatures < 4_294_967_295 / 20 ? null : "it has more entries than positions can be drawn for",
  // 2. Parameters: row indices first, then column indices, as peft stores them.
  parameters({ name, inFeatures, outFeatures }, { r, randomSeed }) {
    const count = r * (inFeatures + outFeatures);
    if (count > inFeatures * outFeatures) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `SHiRA with r ${r} trains ${count} entries; "${name}" has ${inFeatures * outFeatures}.`,
        {
          hint: "Lower r.",
        },
      );
    }
    return {
      values: { shape: [count], free: ["count"], init: zeros },
      positions: {
        shape: [2, count],
        free: [null, "count"],
        trainable: false,
        fileType: "int32",
        init({ random }) {
          const drawn = torchRandom(randomSeed ?? random.integer(2 ** 31)).randperm(inFeatures * outFeatures);
          return positionsFrom(drawn.subarray(0, count), inFeatures);
        },
      },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values) {
    const size = site.inFeatures * site.outFeatures;
    const flat = flatPositions(g, roleOf(values, "positions"), site.inFeatures);
    const zero = g.filled([size], 0);
    const dense = g.scatterElements(zero, flat, roleOf(values, "values"), 0);
    return g.add(y, g.fusedMatMul(x, g.reshape(dense, [site.outFeatures, site.inFeatures]), { transB: true }));
  },
  // 4. Delta
  delta(tensors, _, site) {
    const { data } = roleOf(tensors, "values");
    const change = scatterPositions(site, data, roleOf(tensors, "positions").data, "Position");
    return { weight: addToWeight(site, change) };
  },
  // 5. Keys
  keys: { values: "shira_weight", positions: "shira_indices" },
});
