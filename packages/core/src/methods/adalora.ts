import { z } from "zod";
import { PeftError } from "../errors.ts";
import type { Value } from "../onnx/ir.ts";
import { createBudget } from "./adalora-budget.ts";
import { applyMatrix, columnsOf, refusesAxes, refusesGroups } from "./convolution.ts";
import { roleOf } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const adaloraConfig = z.strictObject({
  /** Mean rank of a module at the end. */
  targetR: z.int().positive().max(65_536).default(8),
  /** Rank of every module at the start; the scale divides by it for ever. */
  initR: z.int().positive().max(65_536).default(12),
  alpha: z.number().default(8),
  dropout: z.number().min(0).lt(1).default(0),
  /** Steps before ranks shrink, and steps at the end with the ranks as they are. */
  tinit: z.int().min(0).default(0),
  tfinal: z.int().min(0).default(0),
  /** Steps between two allocations. */
  deltaT: z.int().positive().default(1),
  /** Smoothing of the sensitivity, and of its variation. */
  beta1: z.number().gt(0).lt(1).default(0.85),
  beta2: z.number().gt(0).lt(1).default(0.85),
  orthRegWeight: z.number().min(0).default(0.5),
  /** Steps of the whole training; default those of this one. */
  totalStep: z.int().positive().nullable().default(null),
  /** Which ranks of a module were kept, by "<module>.lora_E". */
  rankPattern: z.record(z.string(), z.array(z.boolean()).max(65_536)).nullable().default(null),
});
export type AdaloraConfig = z.output<typeof adaloraConfig>;

/** alpha / (r0 + 1e-5), as in peft. */
const adaloraScale = ({ alpha, initR }: AdaloraConfig): number => alpha / (initR + 1e-5);

/** Rank of a module: all of initR, or what a file says was kept. */
function rankOf(name: string, { initR, rankPattern }: AdaloraConfig): number {
  const entry = Object.entries(rankPattern ?? {}).find(([key]) => key.endsWith(`${name}.lora_E`));
  return entry ? entry[1].filter(Boolean).length : initR;
}

/**
 * AdaLoRA: dW = alpha / r0 · B·diag(E)·A, whose E are zeroed during training until the budget is met. Zhang et al. 2023, arXiv 2303.10512.
 * A [r, in], B [out, r] ~ N(0, 0.02²), E [r, 1] = 0. The loss gains orthRegWeight times the mean over all A and B of |A·Aᵀ - I|_F, |Bᵀ·B - I|_F. The
 * schedule and the importance of a rank: `adalora-budget.ts`. Parameters: r0 (in + out + 1) per site. At convolutions of two axes A is [r, in * places], and the dense B·diag(E)·A is the
 * change of the kernel.
 */
export const adalora = defineMethod<AdaloraConfig>({
  type: "ADALORA",
  paper: "2303.10512",
  kinds: ["linear", "conv"],
  identityAtStart: true,
  neutral: "empty",
  config: adaloraConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [2]) ?? refusesGroups(site),
  // 2. Parameters
  parameters(site, config) {
    const { name, outFeatures } = site;
    const r = rankOf(name, config);
    return {
      A: { shape: [r, columnsOf(site)], free: ["r", null], init: normal(0.02) },
      E: { shape: [r, 1], free: ["r", null], init: zeros },
      B: { shape: [outFeatures, r], free: [null, "r"], init: normal(0.02) },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, config) {
    const a = g.mul(roleOf(values, "A"), roleOf(values, "E")); // [r, in]
    const [b, seen, scale] = [roleOf(values, "B"), g.dropout(x, config.dropout), adaloraScale(config)];
    if (site.kind === "conv") return g.add(y, applyMatrix(g, seen, g.matMul(b, a), site, scale));
    return g.add(y, g.fusedMatMul(g.fusedMatMul(seen, a, { transB: true, alpha: scale }), b, { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, { fanInFanOut = false }) {
    const [a, b, e] = [roleOf(tensors, "A"), roleOf(tensors, "B"), roleOf(tensors, "E")];
    const width = a.dims[1] ?? 1;
    const scaled = { dims: a.dims, data: a.data.map((v, i) => v * (e.data[Math.floor(i / width)] as number)) };
    return { weight: { add: scaledProduct(b, scaled, adaloraScale(config), fanInFanOut) } };
  },
  // 5. Keys
  keys: { A: "lora_A", E: "lora_E", B: "lora_B" },

  penalty(g, sites, { orthRegWeight }) {
    if (orthRegWeight === 0 || sites.length === 0) return null;
    const norms = sites.flatMap(({ site, values }) =>
      (["A", "B"] as const).map((role): Value => {
        const factor = roleOf(values, role);
        const r = site.config.initR;
        const gram = g.fusedMatMul(factor, factor, role === "A" ? { transB: true } : { transA: true });
        const unit = Array.from({ length: r * r }, (_, i) => (i % (r + 1) === 0 ? 1 : 0));
        const rest = g.sub(gram, g.constant("float32", unit, [r, r]));
        return g.sqrt(g.add(g.reduceSum(g.mul(rest, rest), [0, 1], false), 1e-12));
      }),
    );
    const total = norms.reduce((a, b) => g.add(a, b));
    return g.mul(total, orthRegWeight / norms.length);
  },
  hooks(setup) {
    if (setup.config.rankPattern) {
      throw new PeftError("CONFIG_INVALID", "An AdaLoRA adapter whose ranks are allocated is not trained further.", {
        hint: "Train a new one, or convert it to LoRA.",
      });
    }
    return createBudget(setup);
  },
  peft: {
    names: { alpha: "lora_alpha", dropout: "lora_dropout", deltaT: "deltaT" },
    only: { bias: ["none"], use_dora: [false] },
  },
});
