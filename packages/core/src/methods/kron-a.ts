import { z } from "zod";
import { kron, matrix, scale } from "../linalg/matrix.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { kroneckerProduct } from "./kronecker.ts";
import { defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const kronAConfig = z.strictObject({
  /** Rows of A; divides the output width. */
  a1: z.int().positive().max(65_536).default(64),
  /** Columns of A; divides the input width. */
  a2: z.int().positive().max(65_536).default(8),
  /** Order of the output rows: that of the published code, A's index fastest, or that of the paper, A ⊗ B. */
  layout: z.enum(["official", "paper"]).default("official"),
  scale: z.number().default(1),
});
export type KronAConfig = z.output<typeof kronAConfig>;

/**
 * DiffuseKronA's adapter: W' = W + A ⊗ B, A [a1, a2], B [out / a1, in / a2]; rank up to rank(A)·rank(B). Marjit et al. 2024, arXiv 2402.17412. A ~ N(0, 1 / a1²),
 * B = 0, no alpha. The published code computes the same numbers with output row j b1 + i at i a1 + j ("official"). The product is never built.
 * Parameters: a1 a2 + out·in / (a1 a2): the smaller a1 a2, the more, down to a1 a2 = sqrt(out·in).
 */
export const kronA = defineMethod<KronAConfig>({
  type: "KRONA",
  paper: "2402.17412",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: kronAConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { a1, a2 }) {
    if (outFeatures % a1 !== 0 || inFeatures % a2 !== 0)
      throw sizeError(`a1 ${a1} or a2 ${a2}`, inFeatures, outFeatures);
    return {
      A: { shape: [a1, a2], init: normal(1 / a1) },
      B: { shape: [outFeatures / a1, inFeatures / a2], init: zeros },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { a1, layout, scale: s }) {
    const product = kroneckerProduct(g, x, g.mul(roleOf(values, "A"), s), roleOf(values, "B")); // [rows, (a1, b1)]
    const b1 = site.outFeatures / a1;
    const ordered =
      layout === "paper"
        ? product
        : g.reshape(g.transpose(g.reshape(product, ["?rows", a1, b1]), [0, 2, 1]), ["?rows", site.outFeatures]);
    return g.add(y, g.reshapeLike(ordered, y));
  },
  // 4. Delta
  delta(tensors, { a1, layout, scale: s }, site) {
    const paper = scale(kron(toMatrix(roleOf(tensors, "A")), toMatrix(roleOf(tensors, "B"))), s);
    if (layout === "paper") return { weight: addToWeight(site, paper) };
    const b1 = site.outFeatures / a1;
    const official = matrix(paper.rows, paper.columns);
    for (let j = 0; j < a1; j++)
      for (let i = 0; i < b1; i++) {
        const from = (j * b1 + i) * paper.columns;
        official.data.set(paper.data.subarray(from, from + paper.columns), (i * a1 + j) * paper.columns);
      }
    return { weight: addToWeight(site, official) };
  },
  // 5. Keys
  keys: { A: "krona_A", B: "krona_B" },
});
