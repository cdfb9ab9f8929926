import { z } from "zod";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { hadamard, isHadamardOrder, iwht } from "../linalg/hadamard.ts";
import { scale, subtract } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { kroneckerProduct } from "./kronecker.ts";
import { defineMethod } from "./method.ts";
import { flatPositions, positionsFrom, scatterPositions } from "./positions.ts";
import { startCoefficients, transformError } from "./qwha-start.ts";

// 1. Config
export const qwhaConfig = z.strictObject({
  /** The number of coefficients is r (in + out): that of LoRA with this rank. */
  r: z.int().positive().max(65_536).default(64),
  scaling: z.number().positive().default(4000),
  /**
   * "quantization" starts at what cancels most of the error of a quantised base on calibration data, at places chosen for that: `calibrateStart` with the
   * float model as `original` makes it. "zero" starts at zero and drawn places.
   */
  initWeights: z.enum(["zero", "quantization"]).default("zero"),
});
export type QwhaConfig = z.output<typeof qwhaConfig>;

/** n as a · 2^k with 2^k near its root: H_n is the Kronecker product of H_a and H_(2^k). */
function splitOf(n: number): [number, number] {
  let [a, b] = [n, 1];
  while (a % 2 === 0 && b * b < n && isHadamardOrder(a / 2)) [a, b] = [a / 2, b * 2];
  return [a, b];
}

function table(g: Builder, n: number): Value {
  const name = `hadamard:${n}`;
  return g.has(name) ? g.value(name) : g.initializer(name, tensorFrom("float32", [n, n], hadamard(n).data));
}

/**
 * QWHA: dW = scaling / sqrt(out) · F·H / in, F zero but for r (in + out) trained coefficients at fixed places, H the Walsh-Hadamard matrix. Jeon
 * et al. 2025, arXiv 2509.17428. Computed as (x·Hᵀ)·Fᵀ, the transform of x by two small products. The start from
 * the error of a quantised base: `qwha-start.ts`. Widths: 2^k, and 2^k times the orders of `hadamard`.
 */
export const qwha = defineMethod<QwhaConfig>({
  type: "QHFT",
  paper: "2509.17428",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights === "zero",
  neutral: "empty",
  config: qwhaConfig,
  defaultTargets: null,
  refuses: ({ inFeatures }) =>
    isHadamardOrder(inFeatures) ? null : `no Hadamard matrix of order ${inFeatures} is known here`,
  // 2. Parameters: row indices first, then transform indices.
  parameters({ name, inFeatures, outFeatures }, { r }) {
    const count = r * (inFeatures + outFeatures);
    if (count > inFeatures * outFeatures) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `QWHA with r ${r} has ${count} coefficients; "${name}" has ${inFeatures * outFeatures} places.`,
        {
          hint: "Lower r.",
        },
      );
    }
    return {
      values: { shape: [count], init: zeros },
      positions: {
        shape: [2, count],
        trainable: false,
        fileType: "int64",
        init({ random }) {
          return positionsFrom(random.permutation(inFeatures * outFeatures).subarray(0, count), inFeatures);
        },
      },
    };
  },
  calibration: { needs: ({ initWeights }) => (initWeights === "quantization" ? { kind: "gram" } : null) },
  start({ site, config, frozen, data, original }) {
    const { r, scaling, initWeights } = config;
    if (initWeights === "zero") return {};
    if (!data?.gram || !original) {
      throw new PeftError(
        "START_NEEDS_DATA",
        `The start "quantization" of "${site.name}" is made from data and the weight before it was quantised.`,
        {
          hint: "Make it with calibrateStart, its option `original` the float model, and hand its values to initialParameters.",
        },
      );
    }
    const error = subtract(frozenMatrix(site, original), frozenMatrix(site, frozen));
    const { inFeatures, outFeatures } = site;
    const found = startCoefficients(transformError(error, data.gram), r * (inFeatures + outFeatures));
    const factor = Math.sqrt(outFeatures) / scaling;
    return {
      values: Float32Array.from(found.values, (v) => v * factor),
      positions: Float32Array.from([...found.rows, ...found.columns]),
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { scaling }) {
    const { inFeatures: n, outFeatures: m } = site;
    const flat = flatPositions(g, roleOf(values, "positions"), n);
    const coefficients = g.mul(roleOf(values, "values"), scaling / (Math.sqrt(m) * n));
    const dense = g.reshape(g.scatterElements(g.filled([m * n], 0), flat, coefficients, 0), [m, n]); // F
    const [a, b] = splitOf(n);
    const transformed = kroneckerProduct(g, x, table(g, a), table(g, b)); // [rows, n]: x·Hᵀ
    return g.add(y, g.reshapeLike(g.fusedMatMul(transformed, dense, { transB: true }), y));
  },
  // 4. Delta: rows of F·H are Hᵀ applied to the rows of F.
  delta(tensors, { scaling }, site) {
    const { data } = roleOf(tensors, "values");
    const f = scatterPositions(site, data, roleOf(tensors, "positions").data, "Coefficient");
    return { weight: addToWeight(site, scale(iwht(f), scaling / Math.sqrt(site.outFeatures))) };
  },
  // 5. Keys
  keys: { values: "qhft_spectrum", positions: "qhft_indices" },
  peft: {
    // How a trained adapter was started does not matter any more.
    write: ({ config, tensors }) => ({ config: { ...config, initWeights: "zero" }, tensors }),
    unwritten: ["initWeights"],
  },
});
