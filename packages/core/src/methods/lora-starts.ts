import { PeftError } from "../errors.ts";
import { columnRange, type Matrix, rowRange, scaleColumns, scaleRows, transpose } from "../linalg/matrix.ts";
import { qr } from "../linalg/qr.ts";
import { svd } from "../linalg/svd.ts";
import type { Random } from "../random/random.ts";
import { frozenMatrix } from "./dense.ts";
import type { AdapterTensor, ByRole, FileForm, StartInput } from "./method.ts";

/** Starts of A and B that are made from the weight, or together. */
export const jointStarts = ["pissa", "olora", "orthogonal"] as const;
export type JointStart = (typeof jointStarts)[number];

/** Starts whose product is not zero: it is subtracted, so that the model begins as it is. */
export const subtractsStart = (start: unknown): boolean =>
  ["pissa", "olora", "lora_ga", "corda"].some((name) => name === start);

const floats = ({ data }: Matrix): Float32Array => Float32Array.from(data);

/** A random matrix with orthonormal columns, [size, r]. */
function orthonormal(random: Random, size: number, r: number): Matrix {
  const values = random.fillNormal(new Float32Array(size * r), 0, 1);
  return qr({ rows: size, columns: r, data: Float64Array.from(values) }, { positive: true }).q;
}

/**
 * A [r, in] and B [out, r] of a joint start.
 * - pissa (Meng et al. 2024, arXiv 2404.02948): B = U_r·sqrt(S_r / s), A = sqrt(S_r / s)·V_rᵀ of the SVD, so s·B·A is W's principal part.
 * - olora (Büyükakyüz 2024, arXiv 2406.01775): W = Q·R, B the first columns of Q, A the first rows of R, as in peft.
 * - orthogonal: A from every other row of a random orthogonal matrix [r, r] and B from the rest, so that B·A = 0 and neither is zero.
 * @param scale s, alpha / r
 */
export function startTogether(
  start: JointStart,
  { site, frozen, random }: StartInput<object>,
  r: number,
  scale: number,
): ByRole<Float32Array> {
  if (start === "orthogonal") return orthogonalPair(random, site.inFeatures, site.outFeatures, r);
  const w = frozenMatrix(site, frozen);
  if (start === "olora") {
    const { q, r: upper } = qr(w);
    return { A: floats(rowRange(upper, 0, r)), B: floats(columnRange(q, 0, r)) };
  }
  const { u, s, vt } = svd(w);
  const roots = s.slice(0, r).map((value) => Math.sqrt(value / scale));
  return { A: floats(scaleRows(rowRange(vt, 0, r), roots)), B: floats(scaleColumns(columnRange(u, 0, r), roots)) };
}

/** As in peft: rows of an orthogonal [r, r] spread by random factors divided by 10, rows 0, 2, ... for A, 1, 3, ... for B. */
function orthogonalPair(random: Random, inFeatures: number, outFeatures: number, r: number): ByRole<Float32Array> {
  if (r % 2 !== 0) {
    throw new PeftError("CONFIG_INVALID", `The orthogonal start needs an even r, received ${r}.`);
  }
  const q = transpose(orthonormal(random, r, r)); // rows orthonormal
  const half = r / 2;
  const spread = (width: number, first: 0 | 1): Float32Array => {
    const factors = random.fillNormal(new Float32Array(width * half), 0, 1);
    const result = new Float32Array(width * r);
    for (let i = 0; i < width; i++)
      for (let k = 0; k < half; k++) {
        const factor = (factors[i * half + k] as number) / 10;
        for (let j = 0; j < r; j++)
          result[i * r + j] = (result[i * r + j] as number) + factor * (q.data[(2 * k + first) * r + j] as number);
      }
    return result;
  };
  const columns = spread(inFeatures, 0); // Aᵀ [in, r]
  const A = Float32Array.from(
    { length: r * inFeatures },
    (_, i) => columns[(i % inFeatures) * r + Math.floor(i / inFeatures)] as number,
  );
  return { A, B: spread(outFeatures, 1) };
}

interface RankConfig {
  readonly r: number;
  readonly alpha: number;
  readonly useRslora: boolean;
  readonly initLoraWeights: unknown;
  readonly freezeA: unknown;
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
}

const multiplied = (pattern: Readonly<Record<string, number>>, factor: number): Record<string, number> =>
  Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * factor]));

/**
 * A LoRA with a joint start as a plain one: a subtracted start makes it one of twice the rank over the same base: A' = [A; A0], B' = [B, -B0], alpha' so that the scale
 * stays. Any reader of LoRA files computes it; the base needs no change.
 * @param unwritten defaults of the options that files leave out
 */
export function inPlainForm<C extends RankConfig>(adapter: FileForm<C>, unwritten: Partial<C>): FileForm<C> {
  const { config, tensors } = adapter;
  // How a trained adapter was started and which factor was trained does not matter any more.
  const isPlain = config.initLoraWeights === true || config.initLoraWeights === "gaussian";
  if (isPlain && config.freezeA === false) return adapter;
  const plain = { ...config, ...unwritten, initLoraWeights: isPlain ? config.initLoraWeights : true };
  if (!subtractsStart(config.initLoraWeights)) return { config: plain, tensors };
  const factor = config.useRslora ? Math.SQRT2 : 2;
  const result = new Map<string, AdapterTensor>();
  for (const [name, tensor] of tensors) {
    if (/\.lora_[AB]0\.weight$/.test(name)) continue;
    const start = tensors.get(name.replace(/\.lora_([AB])\.weight$/, ".lora_$10.weight"));
    if (!start || start === tensor) result.set(name, tensor);
    else result.set(name, name.endsWith(".lora_A.weight") ? stacked(tensor, start) : beside(tensor, start));
  }
  const doubled = {
    r: config.r * 2,
    alpha: config.alpha * factor,
    rankPattern: multiplied(config.rankPattern, 2),
    alphaPattern: multiplied(config.alphaPattern, factor),
  };
  return { config: { ...plain, ...doubled }, tensors: result };
}

/** [A; A0] */
const stacked = (a: AdapterTensor, a0: AdapterTensor): AdapterTensor => ({
  dims: [(a.dims[0] ?? 0) + (a0.dims[0] ?? 0), a.dims[1] ?? 0],
  data: Float32Array.from([...a.data, ...a0.data]),
});

/** [B, -B0] */
function beside(b: AdapterTensor, b0: AdapterTensor): AdapterTensor {
  const [rows = 0, r = 0] = b.dims;
  const data = new Float32Array(2 * rows * r);
  for (let i = 0; i < rows; i++) {
    data.set(b.data.subarray(i * r, (i + 1) * r), 2 * i * r);
    for (let k = 0; k < r; k++) data[(2 * i + 1) * r + k] = -(b0.data[i * r + k] as number);
  }
  return { dims: [rows, 2 * r], data };
}
