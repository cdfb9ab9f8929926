import { z } from "zod";
import { matrix } from "../linalg/matrix.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { type Init, normal, uniform, xavierUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const c3aConfig = z.strictObject({
  /** Side of the circulant blocks; a common divisor of the widths. */
  blockSize: z.int().positive().max(65_536).default(256),
  /** Block size of single modules. */
  blockSizePattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  /** Start of the kernels; true is zeros, the identity. */
  initWeights: z
    .union([z.literal(true), z.enum(["gaussian", "kaiming_uniform", "xavier_uniform"])])
    .default("xavier_uniform"),
});
export type C3aConfig = z.output<typeof c3aConfig>;

/**
 * C3A: the change consists of circulant blocks, dW_mn[p, q] = w_mn[(q - p) mod b] / in. Chen et al. 2024, arXiv 2407.19342.
 * w [out/b, in/b, b]; parameters: out·in / b. Not the identity at the start, unless `initWeights` is true. The kernels are
 * read by a constant table of b x b positions into a dense [out, in].
 */
export const c3a = defineMethod<C3aConfig>({
  type: "C3A",
  paper: "2407.19342",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights === true,
  neutral: "empty",
  config: c3aConfig,
  defaultTargets: null,
  patterns: { blockSize: "blockSizePattern" },
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { blockSize: b, initWeights }) {
    if (inFeatures % b !== 0 || outFeatures % b !== 0) throw sizeError(`blockSize ${b}`, inFeatures, outFeatures);
    const starts: Readonly<Record<string, Init>> = {
      gaussian: normal(1),
      kaiming_uniform: uniform(Math.sqrt(1 / inFeatures)),
      xavier_uniform: xavierUniform(inFeatures, outFeatures),
    };
    return { w: { shape: [outFeatures / b, inFeatures / b, b], init: starts[String(initWeights)] ?? zeros } };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { blockSize: b }) {
    const { inFeatures, outFeatures } = site;
    const table = Array.from({ length: b * b }, (_, i) => ((i % b) - Math.floor(i / b) + b) % b);
    const blocks = g.gather(roleOf(values, "w"), g.constant("int64", table, [b, b]), 2); // [m, n, p, q]
    const change = g.reshape(g.transpose(blocks, [0, 2, 1, 3]), [outFeatures, inFeatures]);
    return g.add(y, g.fusedMatMul(x, change, { transB: true, alpha: 1 / inFeatures }));
  },
  // 4. Delta
  delta(tensors, { blockSize: b }, site) {
    const { data } = roleOf(tensors, "w");
    const { inFeatures, outFeatures } = site;
    const change = matrix(outFeatures, inFeatures);
    for (let o = 0; o < outFeatures; o++)
      for (let i = 0; i < inFeatures; i++) {
        const block = Math.floor(o / b) * (inFeatures / b) + Math.floor(i / b);
        change.data[o * inFeatures + i] = (data[block * b + ((i - o + inFeatures * b) % b)] as number) / inFeatures;
      }
    return { weight: addToWeight(site, change) };
  },
  // 5. Keys
  keys: { w: "c3a_kernel" },
});
