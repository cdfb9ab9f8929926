import { z } from "zod";
import { roleOf } from "./dense.ts";
import { normal, uniform } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";
import { assignmentFor } from "./unilora-indices.ts";

// 1. Config
export const uniloraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(4),
  /** Seed of the indices, as `numpy.random.default_rng` takes it. */
  projSeed: z.int().min(0).default(42),
  /** Trained numbers of the whole adapter. */
  thetaDLength: z.int().positive().max(16_777_216).default(256),
  dropout: z.number().min(0).lt(1).default(0),
  /** The vector starts uniform in ± this. */
  initThetaDBound: z.number().positive().default(0.02),
  /** false: it starts standard normal. */
  initWeights: z.boolean().default(true),
  /** Write indices and factors into the file. Without them a reader makes them again from the seed. */
  saveIndices: z.boolean().default(false),
});
export type UniloraConfig = z.output<typeof uniloraConfig>;

/** A or B out of the vector. */
function factor(tensors: ByRole<AdapterTensor>, which: "A" | "B"): AdapterTensor {
  const theta = roleOf(tensors, "theta").data;
  const { dims, data } = roleOf(tensors, `index${which}`);
  const scales = roleOf(tensors, `scale${which}`).data;
  return { dims, data: data.map((index, i) => (theta[index] as number) * (scales[i] as number)) };
}

/**
 * Uni-LoRA: LoRA whose factors, over all modules, are one trained vector seen through a fixed projection. Li et al. 2025, arXiv
 * 2506.00799. A[k, i] = theta[a] / sqrt(n_a) with a drawn for each value and n_a the number of values that read theta[a], B likewise:
 * the projection keeps lengths. y += (x·Aᵀ)·Bᵀ, no scale. Shapes: theta [d] for all modules; indices and factors [r, in] and [out, r],
 * frozen. theta starts uniform in ±initThetaDBound, so a new adapter is not the identity. Parameters: d in all.
 * Indices are those of NumPy's generator over the modules in the graph's order, which is that of calls. PyTorch's is that of
 * registration: where the two differ, or another export has another order, `saveIndices` keeps them in the file.
 */
export const unilora = defineMethod<UniloraConfig>({
  type: "UNILORA",
  paper: "2506.00799",
  kinds: ["linear"],
  identityAtStart: false,
  neutral: "empty",
  config: uniloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, { r, projSeed, thetaDLength, saveIndices }, all) {
    const made = () => assignmentFor(all, r, thetaDLength, projSeed);
    const frozen = (first: number, rows: number, columns: number) => {
      const part = (): Int32Array => {
        const start = (made().starts.get(site.name) ?? 0) + first;
        return made().indices.subarray(start, start + rows * columns);
      };
      const common = { shape: [rows, columns], trainable: false, saved: saveIndices } as const;
      const index: ParameterSpec = { ...common, fileType: "int64", init: () => Float32Array.from(part()) };
      const scale: ParameterSpec = {
        ...common,
        init: () => Float32Array.from(part(), (i) => made().scales[i] as number),
      };
      return { index, scale };
    };
    const a = frozen(0, r, site.inFeatures);
    const b = frozen(r * site.inFeatures, site.outFeatures, r);
    return { indexA: a.index, indexB: b.index, scaleA: a.scale, scaleB: b.scale };
  },
  shared: (_, { thetaDLength, initThetaDBound, initWeights }) => ({
    theta: { shape: [thetaDLength], init: initWeights ? uniform(initThetaDBound) : normal(1) },
  }),
  // 3. Forward
  forward(g, { x, y }, values, { dropout }) {
    const theta = roleOf(values, "theta");
    const matrix = (which: "A" | "B") =>
      g.mul(g.gather(theta, g.cast(roleOf(values, `index${which}`), "int64")), roleOf(values, `scale${which}`));
    const h = g.fusedMatMul(g.dropout(x, dropout), matrix("A"), { transB: true }); // [..., r]
    return g.add(y, g.fusedMatMul(h, matrix("B"), { transB: true }));
  },
  // 4. Delta
  delta: (tensors, _, { fanInFanOut = false }) => ({
    weight: { add: scaledProduct(factor(tensors, "B"), factor(tensors, "A"), 1, fanInFanOut) },
  }),
  // 5. Keys
  keys: {
    ...{ indexA: "unilora_indices_A", indexB: "unilora_indices_B" },
    ...{ scaleA: "unilora_scales_A", scaleB: "unilora_scales_B" },
  },
  sharedKeys: { theta: "base_model.unilora_theta_d" },
  peft: { names: { dropout: "unilora_dropout" }, only: { bias: ["none"] } },
});
