import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf, toMatrix } from "./dense.ts";
import { type Init, normal, zeros } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, type ByRole, defineMethod } from "./method.ts";
import { startTriangle, triangleEntries } from "./tri-adapt-blocks.ts";
import { blocksOf, sizesOf, type TriAdaptConfig, triAdaptConfig, triAdaptScale } from "./tri-adapt-config.ts";
import { fromBlocks, inBlocks } from "./tri-adapt-files.ts";
import { createGrowth } from "./tri-adapt-growth.ts";

/** Rank of a module: what the file says it has grown to, or the initial one. */
function rankOf(name: string, { rankPattern, initRank }: TriAdaptConfig): number {
  const fits = (key: string): boolean => key === name || name.endsWith(`.${key}`) || key.endsWith(`.${name}`);
  const found = Object.entries(rankPattern ?? {}).find(([key]) => fits(key));
  const rank = found?.[1] ?? initRank;
  if (rank >= initRank) return rank;
  throw new PeftError("CONFIG_INVALID", `"${name}" has rank ${rank}, less than initRank ${initRank}.`);
}

/** B of the blocks: zero where the start asks for it. */
const startOfB =
  (config: TriAdaptConfig): Init =>
  (input) => {
    const values = config.init === "eye" ? zeros(input) : normal(0.02)(input);
    const [, rank = 1] = input.shape;
    const isZero = (k: number): boolean => config.init === "single" && k < config.initRank;
    return values.map((v, i) => (isZero(i % rank) ? 0 : v));
  };

const startOfC =
  (part: "L" | "U", config: TriAdaptConfig): Init =>
  ({ shape: [rank = 1], random }) => {
    const values = new Float32Array(rank * rank);
    startTriangle(values, blocksOf(rank, config), 0, part, sizesOf(config), random);
    return values;
  };

/** C = L + U as a matrix [r, r]. */
const middle = (tensors: ByRole<AdapterTensor>): AdapterTensor => {
  const [lower, upper] = [roleOf(tensors, "L"), roleOf(tensors, "U")];
  return { dims: lower.dims, data: lower.data.map((v, i) => v + (upper.data[i] as number)) };
};

/** C·A of a module: A of the LoRA that it equals, whose scale is {@link triAdaptScale}. */
export const loraAOf = (tensors: ByRole<AdapterTensor>): AdapterTensor => {
  const a = roleOf(tensors, "A");
  return { dims: a.dims, data: scaledProduct(middle(tensors), a, 1, false) };
};

/**
 * TriAdaptLoRA: a LoRA whose ranks grow while it trains, module by module. dW = scale · B·C·A with a square C = L + U between the factors,
 * whose lower and upper triangular parts are trained apart, so that a block of ranks joins without moving what is there. Modules whose |C|_F
 * per block grew most since the last look get another block; how many do depends on the step. Liang, Wang and Zeng 2025, arXiv 2501.08008,
 * after the authors' code: the schedule stands in `tri-adapt-growth.ts`.
 * A [r, in], B [out, r], L and U [r, r] with rows, or columns, of block i reaching to its end o_i. The diagonal blocks belong to both
 * and move twice as fast. The loss gains orthReg times the mean over all A and B of |A·Aᵀ - I|_F, |Bᵀ·B - I|_F.
 * Parameters of a module: r (in + out) + sum of 2 a_i o_i, a_i the size of block i. It is a LoRA of the same rank: `triAdaptToLora`.
 * Unlike the authors' code, new ranks decay like the tensor they join, and all of the initial ranks begin with B = 0 in "single".
 */
export const triAdaptLora = defineMethod<TriAdaptConfig>({
  type: "TRIADAPTLORA",
  paper: "2501.08008",
  kinds: ["linear"],
  identityAtStart: ({ init, rankPattern }) => rankPattern === null || init !== "single",
  neutral: "empty",
  // 1. Config
  config: triAdaptConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, config) {
    const r = rankOf(name, config);
    const entries = triangleEntries(blocksOf(r, config));
    return {
      A: { shape: [r, inFeatures], free: ["r", null], init: normal(0.02) },
      B: { shape: [outFeatures, r], free: [null, "r"], init: startOfB(config) },
      L: { shape: [r, r], free: ["r", "r"], init: startOfC("L", config), entries },
      U: { shape: [r, r], free: ["r", "r"], init: startOfC("U", config), entries },
      scale: {
        shape: [1],
        init: () => Float32Array.of(triAdaptScale(r, config)),
        ...{ trainable: false, saved: false },
      },
    };
  },
  // 3. Forward: ((x·Aᵀ)·Cᵀ)·Bᵀ, the dense change is never built.
  forward(g, { x, y }, values, { dropout }) {
    const h = g.fusedMatMul(g.dropout(x, dropout), roleOf(values, "A"), { transB: true });
    const mixed = g.fusedMatMul(h, g.add(roleOf(values, "L"), roleOf(values, "U")), { transB: true });
    return g.add(y, g.fusedMatMul(g.mul(mixed, roleOf(values, "scale")), roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, { fanInFanOut = false }) {
    const a = loraAOf(tensors);
    return {
      weight: { add: scaledProduct(roleOf(tensors, "B"), a, triAdaptScale(toMatrix(a).rows, config), fanInFanOut) },
    };
  },
  // 5. Keys
  keys: { A: "lora_A", B: "lora_B", L: "lora_C_row", U: "lora_C_col", scale: "lora_scale" },

  penalty(g, sites, { orthReg }) {
    if (orthReg === 0 || sites.length === 0) return null;
    const norms = sites.flatMap(({ values }) =>
      (["A", "B"] as const).map((role): Value => {
        const factor = roleOf(values, role);
        const gram = g.fusedMatMul(factor, factor, role === "A" ? { transB: true } : { transA: true });
        const rest = g.sub(gram, g.op("EyeLike", [gram])[0] as Value);
        // The root's gradient is finite at zero too.
        return g.sqrt(g.add(g.reduceSum(g.mul(rest, rest), [0, 1], false), 1e-12));
      }),
    );
    return g.mul(
      norms.reduce((sum, norm) => g.add(sum, norm)),
      orthReg / norms.length,
    );
  },
  hooks: createGrowth,
  trained: (config, sites) => ({
    ...config,
    rankPattern: Object.fromEntries(sites.map(({ site, tensors }) => [site.name, roleOf(tensors, "A").dims[0] ?? 1])),
  }),
  /** The scale is fed, so nothing of a configuration is left in the forward. */
  swap: { config: (config) => ({ ...config, dropout: 0 }), tensors: (tensors) => tensors },
  peft: {
    names: {
      alpha: "lora_alpha",
      dropout: "lora_dropout",
      warmup: "init_warmup",
      interval: "incre_interval",
      increment: "incre_rank_num",
      growth: "rank_growth_model",
      orthReg: "orth_reg_weight",
      totalSteps: "total_step",
    },
    only: { bias: ["none"] },
    pieces: { write: inBlocks, read: fromBlocks },
  },
});
