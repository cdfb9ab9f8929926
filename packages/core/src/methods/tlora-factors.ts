import { PeftError } from "../errors.ts";

/** Widths of the UNets that the paper adapts. */
const paperFactors: Readonly<Record<number, readonly number[]>> = {
  320: [4, 8, 10],
  640: [8, 8, 10],
  768: [8, 8, 12],
  1280: [8, 10, 16],
  2048: [8, 16, 16],
};

/** Ascending factors >= `least` of n, `order` of them, with the smallest sum; null where there are none. */
function smallestSum(n: number, order: number, least: number): number[] | null {
  if (order === 1) return n >= least ? [n] : null;
  let best: number[] | null = null;
  const sum = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
  for (let f = least; f ** order <= n; f++) {
    if (n % f !== 0) continue;
    const rest = smallestSum(n / f, order - 1, f);
    if (rest && (!best || f + sum(rest) < sum(best))) best = [f, ...rest];
  }
  return best;
}

/**
 * Factors of a width for a tensor ring of `order` cores: those given for it, the paper's, else the most balanced ascending ones (the
 * smallest sum, so the fewest parameters).
 * @throws PeftError SIZE_MISMATCH when given factors are not `order` numbers with the width as product
 * @example
 * factorsOf(768, 3, "balanced"); // [8, 8, 12]
 */
export function factorsOf(
  width: number,
  order: number,
  factors: "balanced" | "paper" | Readonly<Record<string, readonly number[]>>,
): readonly number[] {
  const given = typeof factors === "object" ? factors[String(width)] : undefined;
  if (given) {
    if (given.length === order && given.reduce((a, b) => a * b, 1) === width) return given;
    throw new PeftError("SIZE_MISMATCH", `Factors [${given.join(", ")}] are not ${order} factors of ${width}.`, {
      hint: `Give ${order} integers whose product is ${width}, or change the order.`,
    });
  }
  const known = factors === "paper" ? paperFactors[width] : undefined;
  return known?.length === order ? known : (smallestSum(width, order, 1) ?? [width]);
}
