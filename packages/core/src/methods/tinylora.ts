import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { columnRange, matrix, multiply, rowRange, scaleColumns, scaleRows, transpose } from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import { torchRandom } from "../random/torch-random.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { uniform, zeros } from "./init.ts";
import { defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const tinyLoraConfig = z.strictObject({
  /** Singular directions of the weight that the change lies in; at most min(in, out) are taken. */
  r: z.int().positive().max(4096).default(2),
  /** Trained numbers per group of modules. */
  u: z.int().positive().max(1_000_000).default(64),
  /** 0: every module has numbers of its own; 1: all modules share them. */
  weightTying: z.number().min(0).max(1).default(0),
  /** Seed of the projections, as `torch.manual_seed` takes it; module i adds i. */
  projectionSeed: z.int().min(0).default(42),
  /** Write the projections into the file. Without them a reader makes them again from the seed. */
  saveProjection: z.boolean().default(true),
  dropout: z.number().min(0).lt(1).default(0),
  /** Start of the trained numbers: zeros, or uniform in ±initVBound. */
  initWeights: z.union([z.literal(true), z.literal("uniform")]).default(true),
  initVBound: z.number().positive().default(0.02),
});
export type TinyLoraConfig = z.output<typeof tinyLoraConfig>;

/** To the nearest integer, halves to the even one. */
const roundHalfEven = (x: number): number => {
  const below = Math.floor(x);
  return x - below === 0.5 ? below + (below % 2) : Math.round(x);
};

const groupCount = (modules: number, { weightTying }: TinyLoraConfig): number =>
  Math.max(1, roundHalfEven(modules * (1 - weightTying)));

/** Group of module `index`: runs of neighbouring modules, the last group takes the rest. */
function groupOf(index: number, modules: number, config: TinyLoraConfig): number {
  const groups = groupCount(modules, config);
  return Math.min(Math.floor(index / Math.max(1, Math.floor(modules / groups))), groups - 1);
}

const rankOf = ({ inFeatures, outFeatures }: SiteShape, { r }: TinyLoraConfig): number =>
  Math.min(r, inFeatures, outFeatures);

/** Names of the shared vectors, in order. */
const vectorRoles = (values: Readonly<Record<string, unknown>>): string[] =>
  Object.keys(values)
    .filter((role) => /^v\d+$/.test(role))
    .sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));

/**
 * TinyLoRA: y += ((x·Aᵀ)·Rᵀ)·Bᵀ with A = sqrt(S_r)·V_r and B = U_r·sqrt(S_r) from the weight's leading singular directions, frozen, and
 * R = sum_i v_i P_i of u trained numbers v and fixed random P_i [r, r] ~ N(0, 1/r). Morris et al. 2026, arXiv 2602.04118. Modules share v in
 * groups of neighbours. Parameters: u per group, which may be one number in all. Making it costs one SVD per module.
 * At embeddings the table [rows, width] is the weight, B [rows, r] and A [r, width]: rows of B are looked up, B[ids]·R·A.
 */
export const tinyLora = defineMethod<TinyLoraConfig>({
  type: "TINYLORA",
  paper: "2602.04118",
  kinds: ["linear", "embedding"],
  identityAtStart: ({ initWeights }) => initWeights === true,
  neutral: "empty",
  config: tinyLoraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, config, all) {
    const index = all.findIndex((s) => s.name === site.name);
    const r = rankOf(site, config);
    const { inFeatures, outFeatures } = site;
    const [rows, columns] = site.kind === "embedding" ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
    const { u, projectionSeed, saveProjection } = config;
    const frozen = { init: zeros, trainable: false } as const;
    return {
      A: { shape: [r, columns], ...frozen },
      B: { shape: [rows, r], ...frozen },
      P: {
        shape: [u, r, r],
        trainable: false,
        saved: saveProjection,
        init: () => torchRandom(projectionSeed + index).normal(u * r * r, 0, 1 / Math.sqrt(r)),
      },
      group: {
        shape: [1],
        trainable: false,
        saved: false,
        init: () => Float32Array.of(groupOf(index, all.length, config)),
      },
    };
  },
  shared(sites, config) {
    const { u, initWeights, initVBound } = config;
    const spec: ParameterSpec = { shape: [u], init: initWeights === true ? zeros : uniform(initVBound) };
    return Object.fromEntries(Array.from({ length: groupCount(sites.length, config) }, (_, k) => [`v${k}`, spec]));
  },
  start({ site, config, frozen }) {
    const r = rankOf(site, config);
    const w = frozenMatrix(site, frozen);
    const { u, s, vt } = svd(site.kind === "embedding" ? transpose(w) : w);
    const roots = s.slice(0, r).map(Math.sqrt);
    return {
      A: Float32Array.from(scaleRows(rowRange(vt, 0, r), roots).data),
      B: Float32Array.from(scaleColumns(columnRange(u, 0, r), roots).data),
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, config) {
    const [r, u] = [rankOf(site, config), config.u];
    const roles = vectorRoles(values);
    const vectors = g.reshape(
      g.concat(
        roles.map((role) => roleOf(values, role)),
        0,
      ),
      [roles.length, u],
    );
    const v = g.gather(vectors, g.cast(roleOf(values, "group"), "int64")); // [1, u]
    const core = g.reshape(g.matMul(v, g.reshape(roleOf(values, "P"), [u, r * r])), [r, r]);
    if (site.kind === "embedding") {
      const h = g.dropout(g.gather(roleOf(values, "B"), x), config.dropout); // [...ids, r]
      return g.add(y, g.matMul(g.matMul(h, core), roleOf(values, "A")));
    }
    const h = g.fusedMatMul(g.dropout(x, config.dropout), roleOf(values, "A"), { transB: true }); // [..., r]
    return g.add(y, g.fusedMatMul(g.fusedMatMul(h, core, { transB: true }), roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta: B·R·A, in an embedding's own layout.
  delta(tensors, config, site) {
    const [r, u] = [rankOf(site, config), config.u];
    const role = vectorRoles(tensors)[roleOf(tensors, "group").data[0] ?? 0];
    if (role === undefined) throw new PeftError("PARAMETER", `"${site.name}" belongs to a group without numbers.`);
    const v = matrix(1, u, roleOf(tensors, role).data);
    const core = matrix(r, r, multiply(v, matrix(u, r * r, roleOf(tensors, "P").data)).data);
    const product = multiply(multiply(toMatrix(roleOf(tensors, "B")), core), toMatrix(roleOf(tensors, "A")));
    return { weight: addToWeight(site, site.kind === "embedding" ? transpose(product) : product) };
  },
  // 5. Keys
  keys: { A: "tinylora_A", B: "tinylora_B", P: "tinylora_P", group: "tinylora_group" },
  sharedKeys: (role) => `base_model.tinylora_v.${role.slice(1)}`,
  peft: { names: { dropout: "tinylora_dropout" }, only: { bias: ["none"] } },
});
