import type { Planted } from "./planted-transformer.ts";

/** Makes each problem when it is first asked for: results that are remembered need none. */
export function madeOnce(make: (problem: number) => Promise<Planted>): (problem: number) => Promise<Planted> {
  const made = new Map<number, Promise<Planted>>();
  return (problem) => {
    const planted = made.get(problem) ?? make(problem);
    made.set(problem, planted);
    return planted;
  };
}

/** The learning rate with the highest score; of equal ones the first. */
export async function rateOfBest(
  rates: readonly number[],
  scoreAt: (rate: number) => Promise<number>,
): Promise<number> {
  let best = { rate: rates[0] ?? 0, score: Number.NEGATIVE_INFINITY };
  for (const rate of rates) {
    const score = await scoreAt(rate);
    if (score > best.score) best = { rate, score };
  }
  return best.rate;
}
