import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import { add, matrix, multiply, scale } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { type Init, kaimingUniform, normal, ones, xavierUniform, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const hydraConfig = z.strictObject({
  /** Rank of the branch on the module's input. */
  parallelRank: z.int().positive().max(65_536).default(2),
  /** Rank of the branch on the module's biased output. */
  sequentialRank: z.int().positive().max(65_536).default(2),
  /** Factor of both branches; "learned": one number per branch, 1 at the start. */
  scale: z.union([z.number(), z.literal("learned")]).default(1),
  /** Between the two projections of a branch. */
  dropout: z.number().min(0).lt(1).default(0),
  bias: z.boolean().default(true),
  /** Start of the down projections. */
  init: z.enum(["xavier", "normal", "kaiming"]).default("xavier"),
  branches: z.enum(["both", "parallel", "sequential"]).default("both"),
});
export type HydraConfig = z.output<typeof hydraConfig>;

/** Settings of the paper's three benchmarks. */
export const hydraPresets = {
  /** ViT on VTAB-1k: attention output and second MLP projection; `scale` is searched per task. */
  vtab: { parallelRank: 2, sequentialRank: 2, init: "xavier", bias: true, scale: 1 },
  /** CLIP's image tower on ELEVATER: second MLP projection. */
  elevater: { parallelRank: 2, sequentialRank: 2, init: "normal", bias: true, scale: 1 },
  /** RoBERTa on GLUE: second feed-forward projection. */
  glue: { parallelRank: 4, sequentialRank: 8, init: "kaiming", bias: false, scale: 1 },
} as const satisfies Readonly<Record<string, Partial<HydraConfig>>>;

const branchesOf = ({ branches }: HydraConfig): ("par" | "seq")[] =>
  branches === "both" ? ["par", "seq"] : [branches === "parallel" ? "par" : "seq"];

function startOf(init: HydraConfig["init"], width: number, r: number): Init {
  if (init === "normal") return normal(0.02);
  return init === "kaiming" ? kaimingUniform(Math.sqrt(5)) : xavierUniform(width, r);
}

/** scale · (up·(down·v + a) + b), with what of it there is. */
function branch(g: Builder, v: Value, values: ByRole<Value>, which: string, { scale: s, dropout }: HydraConfig): Value {
  const biased = (x: Value, role: string): Value => (values[role] ? g.add(x, roleOf(values, role)) : x);
  const h = biased(g.fusedMatMul(v, roleOf(values, `${which}Down`), { transB: true }), `${which}DownBias`);
  const out = biased(
    g.fusedMatMul(g.dropout(h, dropout), roleOf(values, `${which}Up`), { transB: true }),
    `${which}UpBias`,
  );
  return g.mul(out, s === "learned" ? roleOf(values, `${which}Scale`) : s);
}

/** Up·Down and the constant part of a branch, scale included. */
function closedForm(tensors: ByRole<AdapterTensor>, which: string, { scale: s }: HydraConfig) {
  const factor = s === "learned" ? (roleOf(tensors, `${which}Scale`).data[0] ?? 1) : s;
  const up = toMatrix(roleOf(tensors, `${which}Up`));
  const [a, b] = [tensors[`${which}DownBias`], tensors[`${which}UpBias`]];
  let shift = matrix(up.rows, 1);
  if (a) shift = add(shift, multiply(up, matrix(up.columns, 1, a.data)));
  if (b) shift = add(shift, matrix(up.rows, 1, b.data));
  return {
    product: scale(multiply(up, toMatrix(roleOf(tensors, `${which}Down`))), factor),
    shift: scale(shift, factor),
  };
}

/**
 * Hydra: a parallel low-rank branch on the module's input and a sequential one on its biased output z = x·Wᵀ + c,
 *   y = z + s (Up (Dp x + dp) + up) + s (Us (Ds z + ds) + us),
 * both linear. Kim et al. 2023, arXiv 2309.06922. W' = W + s Up Dp + s Us Ds W, c' = c + s Us Ds c + s (Up dp + up) + s (Us ds + us). Up
 * projections and biases start at zero. Parameters: r_p (in + out) + 2 r_s out, with biases r_p + r_s + 2 out more. The
 * published VTAB merge takes the wrong layer for attention projections; this is the formula.
 */
export const hydra = defineMethod<HydraConfig>({
  type: "HYDRA",
  paper: "2309.06922",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: hydraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, config) {
    const specs: Record<string, ParameterSpec> = {};
    for (const which of branchesOf(config)) {
      const [r, width] = which === "par" ? [config.parallelRank, inFeatures] : [config.sequentialRank, outFeatures];
      specs[`${which}Down`] = { shape: [r, width], init: startOf(config.init, width, r) };
      specs[`${which}Up`] = { shape: [outFeatures, r], init: zeros };
      if (config.bias) {
        specs[`${which}DownBias`] = { shape: [r], init: zeros };
        specs[`${which}UpBias`] = { shape: [outFeatures], init: zeros };
      }
      if (config.scale === "learned") specs[`${which}Scale`] = { shape: [1], init: ones };
    }
    return specs;
  },
  // 3. Forward
  forward(g, { x, y }, values, config) {
    return branchesOf(config).reduce(
      (sum, which) => g.add(sum, branch(g, which === "par" ? x : y, values, which, config)),
      y,
    );
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    let change = matrix(site.outFeatures, site.inFeatures);
    let shift = matrix(site.outFeatures, 1);
    for (const which of branchesOf(config)) {
      const { product, shift: constant } = closedForm(tensors, which, config);
      change = add(change, which === "par" ? product : multiply(product, frozenMatrix(site, frozen)));
      if (which === "seq" && site.hasBias)
        shift = add(shift, multiply(product, matrix(site.outFeatures, 1, frozen.bias())));
      shift = add(shift, constant);
    }
    const weight = addToWeight(site, change);
    return shift.data.some((v) => v !== 0) || site.hasBias
      ? { weight, bias: { add: Float32Array.from(shift.data) } }
      : { weight };
  },
  deltaNeedsWeight: ({ branches }) => branches !== "parallel",
  // 5. Keys
  keys: Object.fromEntries(
    (["par", "seq"] as const).flatMap((which) => [
      [`${which}Down`, `hydra_${which}.down_proj.weight`],
      [`${which}DownBias`, `hydra_${which}.down_proj.bias`],
      [`${which}Up`, `hydra_${which}.up_proj.weight`],
      [`${which}UpBias`, `hydra_${which}.up_proj.bias`],
      [`${which}Scale`, `hydra_${which}.scale`],
    ]),
  ),
});
