import { PeftError } from "../errors.ts";
import { createRandom } from "../random/random.ts";

/** How values of several adapters become one, entry by entry. */
export const arithmetics = ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"] as const;
export type Arithmetic = (typeof arithmetics)[number];

export interface ArithmeticOptions {
  /** Share of each adapter's entries that is kept, in (0, 1]. */
  readonly density: number;
  /** Which sign wins an entry: that of the sum, or the more frequent one. */
  readonly majoritySign: "total" | "frequency";
  /** Seed of the entries that one adapter (by its number) drops. */
  seedOf(adapter: number): number;
}

/** The values of largest magnitude, all others zero; of equal ones the first. */
function largest(values: Float64Array, density: number): Float64Array {
  const kept = Math.floor(density * values.length);
  const result = new Float64Array(values.length);
  if (kept === 0) return result;
  const sorted = values.map(Math.abs).sort();
  const least = sorted[values.length - kept] as number;
  let ties = sorted.subarray(values.length - kept).findIndex((v) => v > least);
  if (ties < 0) ties = kept;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i] as number);
    if (size > least || (size === least && ties-- > 0)) result[i] = values[i] as number;
  }
  return result;
}

/** Every value is kept with probability `density` and then divided by it, which keeps the expected sum. */
function dropped(values: Float64Array, density: number, seed: number): Float64Array {
  const random = createRandom(seed);
  return values.map((v) => (random.uniform() < density ? v / density : 0));
}

/** The mean of the weighted values whose sign is the elected one, which is elected before weighting. */
function disjoint(
  tensors: readonly Float64Array[],
  weights: readonly number[],
  by: ArithmeticOptions["majoritySign"],
): Float64Array {
  const result = new Float64Array(tensors[0]?.length ?? 0);
  for (let i = 0; i < result.length; i++) {
    let vote = 0;
    for (const tensor of tensors) vote += by === "total" ? (tensor[i] as number) : Math.sign(tensor[i] as number);
    const elected = vote >= 0 ? 1 : -1;
    let [sum, count] = [0, 0];
    tensors.forEach((tensor, k) => {
      const value = tensor[i] as number;
      if (Math.sign(value) !== elected) return;
      sum += value * (weights[k] as number);
      count++;
    });
    result[i] = sum / Math.max(count, 1);
  }
  return result;
}

function weightedSum(tensors: readonly Float64Array[], weights: readonly number[]): Float64Array {
  const result = new Float64Array(tensors[0]?.length ?? 0);
  tensors.forEach((tensor, k) => {
    const weight = weights[k] as number;
    for (let i = 0; i < result.length; i++) result[i] = (result[i] as number) + weight * (tensor[i] as number);
  });
  return result;
}

/**
 * Tensors of equal length combined: task arithmetic (Ilharco et al. 2022, arXiv 2212.04089), TIES (trim, elect a sign, mean of those
 * that agree; Yadav et al. 2023, arXiv 2306.01708), DARE (drop and rescale, then a sum or TIES; Yu et al. 2023, arXiv 2311.03099) and
 * magnitude pruning before a sum, with the rules of `peft`.
 * @throws PeftError SHAPE_MISMATCH
 */
export function arithmetic(
  kind: Arithmetic,
  tensors: readonly Float64Array[],
  weights: readonly number[],
  { density, majoritySign, seedOf }: ArithmeticOptions,
): Float64Array {
  const [first] = tensors;
  if (tensors.some((tensor) => tensor.length !== first?.length)) {
    const lengths = tensors.map((tensor) => tensor.length).join(", ");
    throw new PeftError("SHAPE_MISMATCH", `Expected tensors of one length, received ${lengths}.`);
  }
  const sparse = (): Float64Array[] => {
    if (kind === "linear" || density === 1) return [...tensors];
    if (kind === "ties" || kind === "magnitude_prune") return tensors.map((tensor) => largest(tensor, density));
    return tensors.map((tensor, k) => dropped(tensor, density, seedOf(k)));
  };
  const elects = kind === "ties" || kind === "dare_ties";
  return elects ? disjoint(sparse(), weights, majoritySign) : weightedSum(sparse(), weights);
}
