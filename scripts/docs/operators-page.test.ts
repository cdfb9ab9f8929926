import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { gradientTable } from "../../packages/core/src/gradients/table.ts";
import { aggregate, formatChecks, parseChecks, roundDown } from "../gradient-checks/aggregate.ts";
import { requiredOperators } from "../gradient-checks/required.ts";
import { operatorsPage } from "./operators-page.ts";

const checks = parseChecks(readFileSync(new URL("../../docs/gradient-checks.jsonl", import.meta.url), "utf8"));

test("every operator that is promised is known", () => {
  const known = new Set(Object.keys(gradientTable));
  expect(requiredOperators.filter((operator) => !known.has(operator))).toEqual([]);
});

test("every gradient rule was checked, and with symbolic shapes too", () => {
  const lacking = Object.entries(gradientTable).filter(([key, entry]) => {
    if ("none" in entry) return false;
    const found = checks[key];
    return !found || (found.points === 0 && (found.static === 0 || found.symbolic === 0));
  });
  expect(lacking.map(([key]) => key)).toEqual([]);
});

test("numbers are rounded down so that they stay", () => {
  expect([0, 1, 2, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100, 250].map(roundDown)).toEqual([
    0, 1, 2, 2, 5, 5, 10, 10, 20, 20, 50, 50, 100, 200,
  ]);
});

test("checks are counted per operator, and none is made up", () => {
  const check = { operators: ["Add", "Mul"], opset: 21, against: "static", entries: true, frozen: false } as const;
  const table = aggregate([check, { ...check, operators: ["Add"], opset: 13, against: "symbolic", entries: false }]);
  expect(table).toEqual({
    Add: { static: 1, symbolic: 1, entries: 1, frozen: 0, points: 0, opsets: [13, 21] },
    Mul: { static: 1, symbolic: 0, entries: 1, frozen: 0, points: 0, opsets: [21] },
  });
  expect(parseChecks(formatChecks(table))).toEqual(table);
  const page = operatorsPage({ Add: gradientTable.Add, Sub: gradientTable.Sub }, table);
  expect(page).toContain("| Add | yes, opsets 7 to 24 | 1+ fixed (1+ entry by entry), 1+ symbolic; opsets 13, 21 |");
  expect(page).toContain("| Sub | yes, opsets 7 to 24 |  |");
});
