import fc from "fast-check";
import { expect, test } from "vitest";
import { checkGradient } from "../testing/check-gradient.ts";
import { checkShapes } from "../testing/check-shapes.ts";
import { elementwise, products, type RandomCase, reductions } from "./testing/random-cases.ts";
import { selections } from "./testing/random-moves.ts";

/** Fixed seed and number: every run tests the same cases, in a few seconds. Raise RUNS to look for more. */
const [SEED, RUNS] = [20_260, 60];

test.each([
  ["element-wise operators", elementwise],
  ["reductions", reductions],
  ["products", products],
  ["selections", selections],
] as const)("random %s: shapes as ONNX Runtime's, gradients as finite differences", async (_, cases) => {
  const property = fc.asyncProperty(cases, fc.constantFrom("distinct", "shared"), async (c: RandomCase, mode) => {
    try {
      await checkShapes(c.f, c.inputs, c.opset);
      await checkGradient(c.f, c.inputs, { opset: c.opset, symbolic: [mode], directions: 1, full: false });
    } catch (cause) {
      throw new Error(`${c.label}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  });
  const { failed, errorInstance } = await fc.check(property, { seed: SEED, numRuns: RUNS, endOnFailure: true });
  expect(failed ? String(errorInstance) : "").toBe("");
});
