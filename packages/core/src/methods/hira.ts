import { z } from "zod";
import { hadamardProduct, multiply } from "../linalg/matrix.ts";
import { applyMatrix, columnsOf, refusesGroups, weightMatrix } from "./convolution.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { convolutionParameters, convolutionProduct } from "./lora-convolution.ts";
import { embeddingParameters, embeddingUpdate } from "./lora-embedding.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const hiraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(32),
  /** Share of the input that the update does not see in training. */
  dropout: z.number().min(0).lt(1).default(0),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
});
export type HiraConfig = z.output<typeof hiraConfig>;

/**
 * HiRA: W' = W ∘ (1 + B·A), a change of high rank from two thin factors. Huang et al., ICLR 2025. A [r, in], B [out, r] = 0;
 * no scale. Parameters: r (in + out). The forward needs the dense W ∘ B·A.
 * At convolutions A [r, in, ...kernel] and B [out, r, 1...], at embeddings A [r, rows] = 0 and B [width, r] ~ N(0, 1) as in LoRA; rows of a table
 * are multiplied after they are looked up.
 */
export const hira = defineMethod<HiraConfig>({
  type: "HIRA",
  paper: null,
  kinds: ["linear", "conv", "embedding"],
  identityAtStart: true,
  neutral: "empty",
  config: hiraConfig,
  defaultTargets: null,
  refuses: refusesGroups,
  patterns: { r: "rankPattern" },
  // 2. Parameters
  parameters(site, { r }) {
    const start = kaimingUniform(Math.sqrt(5));
    if (site.kind === "embedding") return embeddingParameters(site, r);
    if (site.kind === "conv") return convolutionParameters(site, r, start);
    return {
      A: { shape: [r, site.inFeatures], free: ["r", null], init: start },
      B: { shape: [site.outFeatures, r], free: [null, "r"], init: zeros },
    };
  },
  // 3. Forward
  forward(g, at, values, { dropout }) {
    const { x, y, site } = at;
    if (site.kind === "embedding") {
      const factors = embeddingUpdate(g, x, roleOf(values, "embeddingA"), roleOf(values, "embeddingB"), 1);
      return g.add(y, g.mul(y, factors));
    }
    const [A, B] = [roleOf(values, "A"), roleOf(values, "B")];
    const product = g.matMul(
      g.reshape(B, [site.outFeatures, B.shape[1] ?? 0]),
      g.reshape(A, [A.shape[0] ?? 0, columnsOf(site)]),
    );
    return g.add(y, applyMatrix(g, g.dropout(x, dropout), g.mul(weightMatrix(g, at), product), site));
  },
  // 4. Delta
  delta(tensors, _, site, frozen) {
    const isTable = site.kind === "embedding";
    const [a, b] = [roleOf(tensors, isTable ? "embeddingA" : "A"), roleOf(tensors, isTable ? "embeddingB" : "B")];
    const product = site.kind === "conv" ? convolutionProduct(a, b, site) : multiply(toMatrix(b), toMatrix(a));
    return { weight: addToWeight(site, hadamardProduct(frozenMatrix(site, frozen), product)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { A: "hira_A", B: "hira_B", embeddingA: "hira_embedding_A", embeddingB: "hira_embedding_B" },
  swap: { config: (config) => ({ ...config, r: 1, dropout: 0, rankPattern: {} }), tensors: (tensors) => tensors },
  peft: { names: { dropout: "hira_dropout" }, only: { bias: ["none"] } },
});
