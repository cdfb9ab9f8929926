import { expect, test } from "vitest";
import { inferenceTable } from "../onnx/infer/table.ts";
import { gradientTable } from "./table.ts";

test("every known operator has exactly one entry, and no entry is for an unknown one", () => {
  expect(Object.keys(gradientTable).sort()).toEqual(Object.keys(inferenceTable).sort());
});

test("an entry is a rule with an opset range or a reason", () => {
  for (const [key, entry] of Object.entries(gradientTable)) {
    if ("none" in entry) expect(entry.none.length, key).toBeGreaterThan(10);
    else expect(entry.opsets[0], key).toBeLessThanOrEqual(entry.opsets[1]);
  }
});
