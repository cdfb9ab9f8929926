import { z } from "zod";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import {
  columnRange,
  identity,
  type Matrix,
  multiply,
  rowRange,
  scale,
  scaleColumns,
  scaleRows,
  subtract,
} from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { type Init, normal, ones, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod } from "./method.ts";
import {
  cayley,
  cayleyNeumann,
  cayleyNeumannValue,
  cayleyValue,
  eye,
  skewMatrices,
  skewMatrix,
  triangleSize,
} from "./orthogonal.ts";

// 1. Config
export const psoftConfig = z.strictObject({
  /** Size of the trained rotation. */
  r: z.int().positive().max(4096).default(32),
  /** Scale alpha / r, which cancels in the start: B·A is the principal part of the weight divided by it. */
  alpha: z.number().positive().default(32),
  /** Share of the input that the update does not see in training. */
  dropout: z.number().min(0).lt(1).default(0),
  /** "psoft_init": A is orthonormal, B takes all singular values; "pissa_init": each takes their roots. */
  abSvdInit: z.enum(["psoft_init", "pissa_init"]).default("psoft_init"),
  /** False trains any matrix in the place of a rotation. */
  psoftOrth: z.boolean().default(true),
  /** Trained factors of the rows and of the columns of the rotation. */
  psoftMagB: z.boolean().default(true),
  psoftMagA: z.boolean().default(true),
  /** A few terms of a series in the place of an exact inverse. */
  useCayleyNeumann: z.boolean().default(false),
  numCayleyNeumannTerms: z.int().min(1).max(64).default(5),
  /** Largest Frobenius norm of Q in the series. */
  cayleyNeumannEps: z.number().gt(0).lt(1).nullable().default(null),
  /** False starts at a rotation drawn at random. */
  initWeights: z.boolean().default(true),
});
export type PsoftConfig = z.output<typeof psoftConfig>;

const scaleOf = ({ alpha, r }: PsoftConfig): number => alpha / r;

const identityStart: Init = ({ shape }) => Float32Array.from(identity(shape[0] ?? 0).data);
const nearIdentity: Init = (input) => {
  const [unit, noise] = [identityStart(input), normal(0.1)(input)];
  return unit.map((v, i) => v + (noise[i] as number));
};

/** R [r, r] = diag(b)·rotation·diag(a) of an adapter's tensors. */
function rotation(tensors: ByRole<AdapterTensor>, config: PsoftConfig): Matrix {
  const { r, psoftOrth, useCayleyNeumann, numCayleyNeumannTerms, cayleyNeumannEps } = config;
  const weight = roleOf(tensors, "R");
  let result = toMatrix(weight);
  if (psoftOrth) {
    const q = skewMatrix(r, weight.data);
    const norm = Math.sqrt(q.data.reduce((sum, v) => sum + v * v, 0));
    const isLong = useCayleyNeumann && cayleyNeumannEps !== null && norm > cayleyNeumannEps;
    const within = isLong ? scale(q, cayleyNeumannEps / norm) : q;
    result = useCayleyNeumann ? cayleyNeumann(within, numCayleyNeumannTerms) : cayley(scale(q, -1));
  }
  const { vectorB, vectorA } = tensors;
  const rows = vectorB ? scaleRows(result, vectorB.data) : result;
  return vectorA ? scaleColumns(rows, vectorA.data) : rows;
}

/** {@link rotation} in a graph. */
function rotationValue(g: Builder, values: ByRole<Value>, config: PsoftConfig): Value {
  const { r, psoftOrth, useCayleyNeumann, numCayleyNeumannTerms, cayleyNeumannEps } = config;
  const weight = roleOf(values, "R");
  let result = weight;
  if (psoftOrth) {
    let q = skewMatrices(g, g.reshape(weight, [1, triangleSize(r)]), r); // [1, r, r]
    if (useCayleyNeumann && cayleyNeumannEps !== null) {
      // The sum is never zero, where the root has no derivative.
      const norm = g.sqrt(g.add(g.reduceSum(g.mul(q, q), [1, 2]), 1e-24));
      q = g.mul(q, g.min(g.div(cayleyNeumannEps, norm), 1));
    }
    const turned = useCayleyNeumann ? cayleyNeumannValue(g, q, r, numCayleyNeumannTerms) : cayleyValue(g, g.neg(q), r); // (I + Q)(I - Q)^-1
    result = g.reshape(turned, [r, r]);
  }
  const { vectorB, vectorA } = values;
  const rows = vectorB ? g.mul(g.reshape(vectorB, [r, 1]), result) : result;
  return vectorA ? g.mul(rows, vectorA) : rows;
}

/**
 * PSOFT: a rotation R of the weight's r leading directions, W' = W + s·B·(R - I)·A with s·B·A the principal part of W, s = alpha / r. Wu et al. 2025
 * (https://openreview.net/forum?id=FSHrinMArK), as in peft: R = diag(b)·(I + Q)(I - Q)⁻¹·diag(a), Q skew-symmetric; its upper triangle, b and a are trained. A [r, in] and
 * B [out, r] come from the SVD of the weight, also when a file is read, and are not trained. Parameters: r (r - 1) / 2 + 2r per site.
 * peft's option `psoft_svd: "lowrank"`, whose factors follow from PyTorch's random numbers, is refused.
 */
export const psoft = defineMethod<PsoftConfig>({
  type: "PSOFT",
  paper: null,
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: psoftConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { r, psoftOrth, psoftMagA, psoftMagB, initWeights }) {
    const most = Math.min(inFeatures, outFeatures);
    if (r > most) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `PSOFT rotates ${r} directions; "${name}" [${outFeatures}, ${inFeatures}] has ${most}.`,
        { hint: "Lower r." },
      );
    }
    const frozen = { init: zeros, trainable: false, saved: false } as const;
    return {
      R: psoftOrth
        ? { shape: [triangleSize(r)], init: initWeights ? zeros : normal(0.1) }
        : {
            shape: [r, r],
            init: initWeights ? identityStart : nearIdentity,
            neutral: () => Float32Array.from(identity(r).data),
          },
      ...(psoftMagB ? { vectorB: { shape: [r], init: ones, neutral: 1 } } : {}),
      ...(psoftMagA ? { vectorA: { shape: [r], init: ones, neutral: 1 } } : {}),
      A: { shape: [r, inFeatures], ...frozen },
      B: { shape: [outFeatures, r], ...frozen },
    };
  },
  start({ site, config, frozen }) {
    const { r, abSvdInit } = config;
    const { u, s, vt } = svd(frozenMatrix(site, frozen));
    const values = s.slice(0, r).map((v) => v / scaleOf(config));
    const roots = values.map(Math.sqrt);
    const [left, right] = [columnRange(u, 0, r), rowRange(vt, 0, r)];
    const isPissa = abSvdInit === "pissa_init";
    return {
      A: Float32Array.from((isPissa ? scaleRows(right, roots) : right).data),
      B: Float32Array.from(scaleColumns(left, isPissa ? roots : values).data),
    };
  },
  // 3. Forward: what is subtracted from R is exactly what it starts as.
  forward(g, { x, y }, values, config) {
    const h = g.fusedMatMul(g.dropout(x, config.dropout), roleOf(values, "A"), {
      transB: true,
      alpha: scaleOf(config),
    }); // [..., r]
    const turn = g.sub(rotationValue(g, values, config), eye(g, config.r));
    const turned = g.fusedMatMul(h, turn, { transB: true });
    return g.add(y, g.fusedMatMul(turned, roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, site) {
    const turn = subtract(rotation(tensors, config), identity(config.r));
    const [a, b] = [toMatrix(roleOf(tensors, "A")), toMatrix(roleOf(tensors, "B"))];
    return { weight: addToWeight(site, scale(multiply(multiply(b, turn), a), scaleOf(config))) };
  },
  // The factors are those of the weight it was made for.
  deltaNeedsWeight: true,
  // 5. Keys
  keys: {
    R: "psoft_R.weight",
    vectorB: "psoft_R.vector_b",
    vectorA: "psoft_R.vector_a",
    A: "psoft_A",
    B: "psoft_B",
  },
  peft: {
    names: { alpha: "psoft_alpha", dropout: "psoft_dropout" },
    only: { psoft_svd: ["full"] },
  },
});
