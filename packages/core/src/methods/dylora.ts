import { z } from "zod";
import { PeftError } from "../errors.ts";
import { roleOf } from "./dense.ts";
import { createDyloraHooks, maskAt, rankOf } from "./dylora-hooks.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";

// 1. Config
export const dyloraConfig = z.strictObject({
  /** Largest rank; the adapter works at every rank up to it. */
  rMax: z.int().positive().max(65_536).default(8),
  /** The update at rank b is multiplied by alpha / b. */
  alpha: z.number().default(16),
  dropout: z.number().min(0).lt(1).default(0),
  /** "frozen": at rank b only component b learns. "prefix": components 1 to b do. */
  update: z.enum(["frozen", "prefix"]).default("frozen"),
  /** How ranks are drawn: all alike, geometric with this probability of stopping at each rank, or by weights for ranks 1 to rMax. */
  rankDistribution: z
    .union([
      z.literal("uniform"),
      z.strictObject({ geometric: z.number().gt(0).lt(1) }),
      z.array(z.number().min(0)).max(65_536),
    ])
    .default("uniform"),
  /** Other components stay as they are. false, as in the official code: momentum and weight decay still move them. */
  optimizerMask: z.boolean().default(false),
  /** Every module draws its own rank. */
  perSite: z.boolean().default(false),
  /** Components that come and go together; divides rMax. With it ranks are drawn, and listed in the distribution, in blocks. */
  blockSize: z.int().positive().max(65_536).default(1),
  /** "lycoris": in training the factor is alpha / blocks, not alpha / rank. What is evaluated and saved is the same. */
  convention: z.enum(["official", "lycoris"]).default("official"),
  /** Rank at which the adapter is evaluated, merged and served; null: rMax. */
  rank: z.int().positive().max(65_536).nullable().default(null),
});
export type DyloraConfig = z.output<typeof dyloraConfig>;

function checkRanks({ rMax, blockSize, rank, rankDistribution: ranks }: DyloraConfig): void {
  const blocks = rMax / blockSize;
  const isWeighted = Array.isArray(ranks);
  const problem = !Number.isInteger(blocks)
    ? `blockSize ${blockSize} does not divide rMax ${rMax}`
    : rank !== null && rank % blockSize !== 0
      ? `rank ${rank} is no multiple of blockSize ${blockSize}`
      : isWeighted && (ranks.length !== blocks || !ranks.some((weight) => weight > 0))
        ? `rankDistribution has ${ranks.length} weights, the sum ${ranks.reduce((a, b) => a + b, 0)}; expected ${blocks} with a positive sum`
        : null;
  if (problem) throw new PeftError("CONFIG_INVALID", `DyLoRA: ${problem}.`);
}

/** The first b rows of A, or columns of B. */
export const firstRows = ({ dims, data }: AdapterTensor, b: number): AdapterTensor => ({
  dims: [b, dims[1] as number],
  data: data.slice(0, b * (dims[1] as number)),
});
export const firstColumns = ({ dims: [rows = 0, columns = 1], data }: AdapterTensor, b: number): AdapterTensor => ({
  dims: [rows, b],
  data: data.filter((_, i) => i % columns < b),
});

/**
 * DyLoRA: one LoRA that can be cut to any rank from 1 to rMax. Valipour et al. 2022, arXiv 2210.07558. Every step draws one rank b for all modules;
 * y += alpha / b · (x·A_bᵀ)·B_bᵀ with the first b rows of A and columns of B. In the main variant only component b gets a gradient, and
 * as in the official code AdamW's momentum and decay still move the others (`optimizerMask` stops that, as the paper's update does).
 * Parameters: rMax (in + out). `truncateDylora` makes a plain LoRA of any rank. A new draw for every module and blocks of components are
 * LyCORIS' variant, whose training factor alpha / blocks differs from that of the file it writes.
 */
export const dylora = defineMethod<DyloraConfig>({
  type: "DYLORA",
  paper: "2210.07558",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: dyloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, config) {
    checkRanks(config);
    const { rMax, alpha } = config;
    const mask = (): Float32Array => maskAt(rankOf(config), rMax, alpha / rankOf(config));
    return {
      A: { shape: [rMax, inFeatures], init: kaimingUniform(Math.sqrt(5)) },
      B: { shape: [outFeatures, rMax], init: zeros },
      mask: { shape: [rMax], init: mask, trainable: false, saved: false },
    };
  },
  // 3. Forward
  forward(g, { x, y }, values, { dropout }) {
    const h = g.fusedMatMul(g.dropout(x, dropout), roleOf(values, "A"), { transB: true });
    return g.add(y, g.fusedMatMul(g.mul(h, roleOf(values, "mask")), roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, { fanInFanOut = false }) {
    const b = rankOf(config);
    const [left, right] = [firstColumns(roleOf(tensors, "B"), b), firstRows(roleOf(tensors, "A"), b)];
    return { weight: { add: scaledProduct(left, right, config.alpha / b, fanInFanOut) } };
  },
  // 5. Keys
  keys: { A: "lora_A.weight", B: "lora_B.weight", mask: "dylora_mask" },
  hooks: createDyloraHooks,
});
