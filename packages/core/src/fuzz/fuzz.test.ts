import { expect, test } from "vitest";
import { fuzz } from "../testing/fuzz/fuzz.ts";
import { tryInput } from "../testing/fuzz/try-input.ts";
import { fuzzTargets } from "./core-targets.ts";

const inputs: Record<string, number> = { onnx: 2000, pattern: 1500 };

test.each(Object.keys(fuzzTargets))("%s: damaged inputs are accepted or refused, nothing else", async (name) => {
  const target = fuzzTargets[name]!();
  const report = await fuzz(target, { inputs: inputs[name] ?? 3000, seed: 1 });
  expect(report.findings).toEqual([]);
  expect(report.accepted).toBeGreaterThan(0);
  expect(Object.keys(report.refused).length).toBeGreaterThan(0);
});

/** Seeds that use what is read but not computed. */
const notComputed = ["UNSUPPORTED_OPERATOR", "UNKNOWN_METHOD"];

test.each(Object.keys(fuzzTargets))("%s: undamaged inputs are accepted", async (name) => {
  const target = fuzzTargets[name]!();
  for (const seed of target.seeds) {
    const outcome = await tryInput(target, seed);
    if (outcome.result === "refused") expect(notComputed).toContain(outcome.code);
    else expect(outcome).toEqual({ result: "accepted" });
  }
});
