import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { add, identity, type Matrix, matrix, multiply, scale, subtract } from "../linalg/matrix.ts";
import { type RingCore, ringKronecker, ringMatrix } from "../linalg/tensor-ring.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { type Init, kaimingUniform, normal, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";
import { factorsOf } from "./tlora-factors.ts";
import { identityDistance, orthogonalDistance, ringApply, ringFactors, ringKroneckerValue } from "./tlora-ring.ts";

/** Cores a ring may have. */
const MOST_CORES = 6;

// 1. Config
export const tloraConfig = z.strictObject({
  /** Rank of the transform's ring; 0: no transform. */
  transformRank: z.int().min(0).max(16).default(2),
  /** What is added to the transformed weight: a tensor ring, a LoRA pair, or nothing. */
  residual: z.enum(["tr", "lora", "none"]).default("tr"),
  /** Rank of the residual. */
  residualRank: z.int().positive().max(65_536).default(6),
  /** Factors that a width is split into; a ring has that many cores. */
  order: z.int().min(1).max(MOST_CORES).default(3),
  /** Factors of the widths, the first running fastest: balanced, those of the paper's UNets, or given: { "768": [8, 8, 12] }. */
  factors: z
    .union([z.enum(["balanced", "paper"]), z.record(z.string(), z.array(z.int().positive()))])
    .default("balanced"),
  /** Keeps the transform's cores near those of the identity, or of an orthogonal matrix. */
  transformReg: z.enum(["none", "identity", "orthogonal"]).default("none"),
  /** Factor of that penalty, which is summed over cores and averaged over modules. */
  regWeight: z.number().min(0).default(0),
  /** Deviation of the residual's cores; "mup": 1 / (size sqrt(rank)). */
  initStd: z.union([z.number().positive(), z.literal("mup")]).default("mup"),
  /** Factor of the residual. */
  scale: z.number().default(1),
  /** How inputs are transformed: core after core, by the matrix made of them, or by whichever should take less time for 512 rows. */
  apply: z.enum(["chain", "matrix", "auto"]).default("auto"),
});
export type TloraConfig = z.output<typeof tloraConfig>;

/** Roles of a ring's cores, in order. */
const coreRoles = (kind: "transform" | "out" | "in", order: number): string[] =>
  Array.from({ length: order }, (_, d) => `${kind}${d}`);
const coresOf = <T>(values: ByRole<T>, kind: "transform" | "out" | "in", order: number): T[] =>
  coreRoles(kind, order).map((role) => roleOf(values, role));

/** Cores of the identity: every slice A[:, :, r, r'] is Id / R. */
const identityCore = (size: number, rank: number): Float32Array => {
  const square = rank * rank;
  return Float32Array.from({ length: size * size * square }, (_, at) =>
    Math.floor(at / square) % (size + 1) === 0 ? 1 / rank : 0,
  );
};

/** Rows of a micro-batch, by which "auto" counts operations. */
const ROWS = 512;
/** Products with cores are small and transposed in between: at width 768 one of their operations takes the time of twenty of a large product. */
const CORE_COST = 20;

/** Whether inputs go through the cores one after the other. */
function chains({ apply, transformRank: rank }: TloraConfig, sizes: readonly number[]): boolean {
  if (apply !== "auto") return apply === "chain";
  const n = sizes.reduce((a, b) => a * b, 1);
  const perCore = sizes.map((size, d) => n * size * (d === sizes.length - 1 ? rank ** 2 : rank ** 3));
  return CORE_COST * ROWS * perCore.reduce((a, b) => a + b, 0) < n ** 2 * rank ** 2 + ROWS * n ** 2;
}

/** T of a site, [in, in]. */
function transformOf(tensors: ByRole<AdapterTensor>, { transformRank, order }: TloraConfig): Matrix {
  const cores = coresOf(tensors, "transform", order).map(({ dims, data }) => ({
    rows: dims[0] as number,
    columns: dims[1] as number,
    rank: transformRank,
    data: Float64Array.from(data),
  }));
  return ringKronecker(cores);
}

/** The residual of a site, [out, in], without its scale. */
function residualOf(tensors: ByRole<AdapterTensor>, { residual, order }: TloraConfig, site: SiteShape): Matrix {
  if (residual === "none") return matrix(site.outFeatures, site.inFeatures);
  if (residual === "lora") return multiply(toMatrix(roleOf(tensors, "B")), toMatrix(roleOf(tensors, "A")));
  const ring = (kind: "out" | "in"): RingCore[] =>
    coresOf(tensors, kind, order).map(({ dims, data }) => ({
      size: dims[0] as number,
      rank: dims[1] as number,
      data: Float64Array.from(data),
    }));
  return ringMatrix(ring("out"), ring("in"));
}

/**
 * TLoRA: W' = W·T + s·D with a full-rank transform T [in, in] near the identity and a small residual D. Tao et al. 2025, arXiv 2501.08727
 * (layer code was never published; sizes follow from the printed parameter counts). T is a tensor-ring matrix, T[i, j] = trace(A^1[i_1, j_1]
 * A^2[i_2, j_2] ...), D a tensor ring, trace(B^1[o_1] .. C^1[j_1] ..), or a LoRA pair; i = i_1 + n_1 (i_2 + n_2 (i_3 + ...)), the first factor
 * fastest. Cores A^d [n_d, n_d, R, R] start as Id / R, so T is the identity but for rounding; B^1 starts at zero. y = base(x·Tᵀ) + s (x·right)·leftᵀ
 * with left [out, R'²] and right [in, R'²]. x·Tᵀ goes core after core (in R³ sum n_d multiplications a row) or by T itself (in² R² a run, in² values in memory, and in² a row).
 * Parameters: R² sum n_d² and R'² sum (n_d + m_d) or r (in + out).
 */
export const tlora = defineMethod<TloraConfig>({
  type: "TLORA_TENSOR",
  paper: "2501.08727",
  kinds: ["linear"],
  identityAtStart: ({ transformRank }) => (transformRank === 0 ? true : "rounded"),
  neutral: "empty",
  config: tloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, config) {
    const { transformRank, residual, residualRank, order, factors, initStd } = config;
    const [inner, outer] = [factorsOf(inFeatures, order, factors), factorsOf(outFeatures, order, factors)];
    const specs: Record<string, ParameterSpec> = {};
    if (transformRank > 0)
      inner.forEach((size, d) => {
        const values = (): Float32Array => identityCore(size, transformRank);
        const shape = [size, size, transformRank, transformRank];
        specs[`transform${d}`] = { shape, init: values, neutral: values };
      });
    if (residual === "lora") {
      specs["A"] = { shape: [residualRank, inFeatures], free: ["r", null], init: kaimingUniform(Math.sqrt(5)) };
      specs["B"] = { shape: [outFeatures, residualRank], free: [null, "r"], init: zeros };
    }
    if (residual === "tr") {
      const start = (size: number): Init => normal(initStd === "mup" ? 1 / (size * Math.sqrt(residualRank)) : initStd);
      const core = (size: number, init: Init): ParameterSpec => ({ shape: [size, residualRank, residualRank], init });
      outer.forEach((size, d) => {
        specs[`out${d}`] = core(size, d === 0 ? zeros : start(size));
      });
      inner.forEach((size, d) => {
        specs[`in${d}`] = core(size, start(size));
      });
    }
    return specs;
  },
  // 3. Forward
  forward(g, { x, y, site, base }, values, config) {
    const { transformRank, residual, residualRank, order, factors, scale: factor } = config;
    const sizes = factorsOf(site.inFeatures, order, factors);
    const cores = transformRank === 0 ? [] : coresOf(values, "transform", order);
    const inputs = (): Value =>
      chains(config, sizes)
        ? ringApply(g, x, cores, sizes, transformRank)
        : g.fusedMatMul(x, ringKroneckerValue(g, cores, sizes, transformRank), { transB: true });
    const transformed = transformRank === 0 ? y : base(inputs());
    if (residual === "none") return transformed;
    if (residual === "lora") {
      const h = g.fusedMatMul(x, roleOf(values, "A"), { transB: true, alpha: factor });
      return g.add(transformed, g.fusedMatMul(h, roleOf(values, "B"), { transB: true }));
    }
    const { left, right } = ringFactors(g, coresOf(values, "out", order), coresOf(values, "in", order), residualRank);
    const h = g.fusedMatMul(x, right, { alpha: factor }); // [..., R'²]
    return g.add(transformed, g.fusedMatMul(h, left, { transB: true }));
  },
  // 4. Delta: W·(T - Id) + s·D
  delta(tensors, config, site, frozen) {
    const change = scale(residualOf(tensors, config, site), config.scale);
    if (config.transformRank === 0) return { weight: addToWeight(site, change) };
    const shift = subtract(transformOf(tensors, config), identity(site.inFeatures));
    return { weight: addToWeight(site, add(multiply(frozenMatrix(site, frozen), shift), change)) };
  },
  deltaNeedsWeight: ({ transformRank }) => transformRank > 0,
  // 5. Keys
  keys: {
    ...Object.fromEntries(
      (["transform", "out", "in"] as const).flatMap((kind) =>
        coreRoles(kind, MOST_CORES).map((role, d) => [role, `tlora_${kind}.${d}`]),
      ),
    ),
    A: "lora_A.weight",
    B: "lora_B.weight",
  },

  penalty(g, sites, { transformRank, transformReg, regWeight }) {
    if (transformReg === "none" || regWeight === 0 || transformRank === 0 || sites.length === 0) return null;
    const measure = transformReg === "identity" ? identityDistance : orthogonalDistance;
    const distances = sites.flatMap(({ site, values }) =>
      coresOf(values, "transform", site.config.order).map((core) =>
        measure(g, core, Number(core.shape[0]), transformRank),
      ),
    );
    return g.mul(
      distances.reduce((a, b) => g.add(a, b)),
      regWeight / sites.length,
    );
  },
});
