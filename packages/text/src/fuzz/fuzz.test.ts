import { fuzz } from "@onnx-peft/core/testing";
import { expect, test } from "vitest";
import { fuzzTargets } from "./text-targets.ts";

test.each(Object.keys(fuzzTargets))("%s: damaged files are read or refused, nothing else", async (name) => {
  const target = fuzzTargets[name]!();
  const report = await fuzz(target, { inputs: 500, seed: 1 });
  expect(report.findings).toEqual([]);
  expect(report.accepted).toBeGreaterThan(0);
  expect(Object.keys(report.refused)).toEqual(["DATA_INVALID"]);
});
