import type { GradientCheck } from "../../packages/core/src/testing/check-log.ts";

/**
 * What was checked of one operator's gradient, over all tests of rules: numbers of checks that passed, rounded down to 1,
 * 2, 5, 10, 20, 50, ..., so that one more test of a common operator changes nothing here.
 */
export interface OperatorChecks {
  readonly static: number;
  readonly symbolic: number;
  /** Of the static ones, those that compared every entry. */
  readonly entries: number;
  /** With one input frozen. */
  readonly frozen: number;
  /** Comparisons with PyTorch's or worked-out values where finite differences do not exist. */
  readonly points: number;
  readonly opsets: readonly number[];
}

export type CheckTable = Readonly<Record<string, OperatorChecks>>;

const none: OperatorChecks = { static: 0, symbolic: 0, entries: 0, frozen: 0, points: 0, opsets: [] };

function add(sum: OperatorChecks, { against, entries, frozen, opset }: GradientCheck): OperatorChecks {
  const one = (test: boolean): number => (test ? 1 : 0);
  return {
    static: sum.static + one(against === "static"),
    symbolic: sum.symbolic + one(against === "symbolic"),
    entries: sum.entries + one(entries),
    frozen: sum.frozen + one(frozen),
    points: sum.points + one(against === "points"),
    opsets: [...new Set([...sum.opsets, opset])].sort((a, b) => a - b),
  };
}

/** The largest of 0, 1, 2, 5, 10, 20, 50, ... that is not above n. */
export function roundDown(n: number): number {
  let result = 0;
  for (let power = 1; power <= n; power *= 10)
    for (const digit of [1, 2, 5]) if (digit * power <= n) result = digit * power;
  return result;
}

/** Checks by operator, sorted by name. */
export function aggregate(checks: readonly GradientCheck[]): CheckTable {
  const table = new Map<string, OperatorChecks>();
  for (const check of checks) {
    for (const operator of check.operators) table.set(operator, add(table.get(operator) ?? none, check));
  }
  const rounded = [...table].map(([operator, { opsets, ...counts }]) => {
    const numbers = Object.entries(counts).map(([kind, n]) => [kind, roundDown(n)] as const);
    return [operator, { ...Object.fromEntries(numbers), opsets } as OperatorChecks] as const;
  });
  return Object.fromEntries(rounded.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** docs/gradient-checks.jsonl: one operator a line, so that changes can be read and merged. */
export const formatChecks = (table: CheckTable): string =>
  Object.entries(table)
    .map(([operator, checks]) => `${JSON.stringify({ operator, ...checks })}\n`)
    .join("");

/** Reads what {@link formatChecks} wrote. */
export const parseChecks = (text: string): CheckTable =>
  Object.fromEntries(
    text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const { operator, ...checks } = JSON.parse(line) as OperatorChecks & { readonly operator: string };
        return [operator, checks];
      }),
  );
