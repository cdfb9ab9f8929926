import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Random } from "../random/random.ts";
import { roleOf } from "./dense.ts";
import { uniform, zeros } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const mosConfig = z.strictObject({
  /** Rank of every assembled LoRA. */
  r: z.int().positive().max(65_536).default(8),
  /** What is stored per module, counted as the rank of a LoRA. */
  equivalentRank: z.int().positive().max(65_536).default(2),
  /** Part of it that no other module uses. */
  privateRank: z.int().min(0).max(65_536).default(1),
  /** Pieces that a row of A or a column of B is made of; divides the widths. */
  shardsPerVector: z.int().positive().max(65_536).default(4),
  alpha: z.number().default(16),
  dropout: z.number().min(0).lt(1).default(0),
  /** Which modules share pools: those of one shape with the same last part of the name, or all of one shape. */
  poolBy: z.enum(["type", "shape"]).default("type"),
  /** Separate lists for A and B, so that a row of A does not always meet the same column of B. */
  dissociate: z.boolean().default(true),
});
export type MosConfig = z.output<typeof mosConfig>;

/** The pool of a module: the last part of its name, and its shape. */
const poolOf = ({ name, inFeatures, outFeatures }: SiteShape, { poolBy }: MosConfig): string => {
  const shape = `${outFeatures}x${inFeatures}`;
  return poolBy === "shape" ? shape : `${name.split(".").at(-1) ?? name}:${shape}`;
};

/** The list that B's columns are glued by. */
const listOfB = ({ dissociate }: MosConfig): string => (dissociate ? "indexB" : "indexA");

const membersOf = (site: SiteShape, all: readonly SiteShape[], config: MosConfig): SiteShape[] =>
  all.filter((s) => poolOf(s, config) === poolOf(site, config));

function checkSizes(site: SiteShape, config: MosConfig, layers: number): void {
  const { r, equivalentRank: e, privateRank: p, shardsPerVector: l } = config;
  const problem =
    site.inFeatures % l !== 0 || site.outFeatures % l !== 0
      ? `shardsPerVector ${l} does not divide [${site.outFeatures}, ${site.inFeatures}]`
      : p > e || p > r
        ? `privateRank ${p} exceeds equivalentRank ${e} or r ${r}`
        : p === e && r !== e
          ? `with privateRank = equivalentRank = ${e}, r must be ${e} too, received ${r}`
          : r - p > (e - p) * layers
            ? `r - privateRank is ${r - p}, the public part of ${layers} modules holds ${(e - p) * layers}`
            : null;
  if (problem) {
    throw new PeftError("CONFIG_INVALID", `MoS at "${site.name}": ${problem}.`, {
      hint: "Change r, equivalentRank, privateRank or shardsPerVector.",
    });
  }
}

/** Shards of a module: some public ones at random, then its own. */
function drawIndices(random: Random, layer: number, layers: number, config: MosConfig): Float32Array {
  const { r, equivalentRank: e, privateRank: p, shardsPerVector: l } = config;
  const publicShards = (e - p) * layers * l;
  const chosen = publicShards === 0 ? [] : [...random.permutation(publicShards).subarray(0, (r - p) * l)];
  const own = Array.from({ length: p * l }, (_, k) => publicShards + layer * p * l + k);
  return Float32Array.from([...chosen, ...own]);
}

/** Shards glued to the rows of a matrix [r, width]. */
function assemble(pool: AdapterTensor, indices: AdapterTensor, r: number): AdapterTensor {
  const [shards = 0, size = 0] = pool.dims;
  const data = new Float32Array(indices.data.length * size);
  indices.data.forEach((shard, k) => {
    if (!(shard >= 0 && shard < shards))
      throw new PeftError("PARAMETER", `Shard ${shard} is outside a pool of ${shards}.`);
    data.set(pool.data.subarray(shard * size, (shard + 1) * size), k * size);
  });
  return { dims: [r, data.length / r], data };
}

const transposedTensor = ({ dims: [rows = 0, columns = 0], data }: AdapterTensor): AdapterTensor => ({
  dims: [columns, rows],
  data: Float32Array.from(
    { length: data.length },
    (_, i) => data[(i % rows) * columns + Math.floor(i / rows)] as number,
  ),
});

/**
 * MoS: LoRA whose rows of A and columns of B are glued from shards of pools that all modules of one kind share. Wang et al. 2024,
 * arXiv 2410.00938. Pools A [e L l, in / l] and B [e L l, out / l] for L modules; every module reads r l shards of each, (r - p) l public ones drawn once
 * and p l of its own; lists of A and B are independent, saved, and never trained. y += alpha / r · x·Aᵀ·Bᵀ. A starts uniform in
 * ±1 / sqrt(in), B at zero. Parameters: those of LoRA with rank e, whatever r.
 */
export const mos = defineMethod<MosConfig>({
  type: "MOS",
  paper: "2410.00938",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: mosConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, config, all) {
    const members = membersOf(site, all, config);
    checkSizes(site, config, members.length);
    const layer = members.findIndex((s) => s.name === site.name);
    const list = (): ParameterSpec => ({
      shape: [config.r * config.shardsPerVector],
      trainable: false,
      fileType: "int32",
      init: ({ random }) => drawIndices(random, layer, members.length, config),
    });
    return config.dissociate ? { indexA: list(), indexB: list() } : { indexA: list() };
  },
  shared(sites, config) {
    const { equivalentRank, shardsPerVector: l } = config;
    const specs: Record<string, ParameterSpec> = {};
    for (const site of sites) {
      const shards = equivalentRank * membersOf(site, sites, config).length * l;
      specs[`A:${poolOf(site, config)}`] = {
        shape: [shards, site.inFeatures / l],
        init: uniform(1 / Math.sqrt(site.inFeatures)),
      };
      specs[`B:${poolOf(site, config)}`] = { shape: [shards, site.outFeatures / l], init: zeros };
    }
    return specs;
  },
  // 3. Forward
  forward(g, { x, y, site }, values, config) {
    const { r, alpha, dropout } = config;
    const glued = (pool: string, index: string, width: number) =>
      g.reshape(g.gather(roleOf(values, `${pool}:${poolOf(site, config)}`), g.cast(roleOf(values, index), "int64")), [
        r,
        width,
      ]);
    const h = g.fusedMatMul(g.dropout(x, dropout), glued("A", "indexA", site.inFeatures), {
      transB: true,
      alpha: alpha / r,
    });
    return g.add(y, g.matMul(h, glued("B", listOfB(config), site.outFeatures)));
  },
  // 4. Delta
  delta(tensors, config, site) {
    const { r, alpha } = config;
    const a = assemble(roleOf(tensors, `A:${poolOf(site, config)}`), roleOf(tensors, "indexA"), r);
    const b = assemble(roleOf(tensors, `B:${poolOf(site, config)}`), roleOf(tensors, listOfB(config)), r);
    return { weight: { add: scaledProduct(transposedTensor(b), a, alpha / r, site.fanInFanOut ?? false) } };
  },
  // 5. Keys
  keys: { indexA: "mos_index_A", indexB: "mos_index_B" },
  sharedKeys: (role) => `base_model.mos_pool_${role}`,
});
