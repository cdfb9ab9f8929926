import { expect, test } from "vitest";
import { unrolledGradient } from "./unrolled-gradient.ts";

/** Inner loss (w - 3a)² / 2 + w a², outer loss w² / 2 + 5 a, both with a hand-made gradient. */
function problem(w: number, a: number) {
  const weights = new Map([["w", Float32Array.of(w)]]);
  const calls: string[] = [];
  const gradients = async (of: "inner" | "outer") => {
    calls.push(of);
    const [x = 0] = weights.get("w")!;
    const [dW, dA] = of === "inner" ? [x - 3 * a + a * a, -3 * (x - 3 * a) + 2 * x * a] : [x, 5];
    return new Map([
      ["w", Float32Array.of(dW)],
      ["a", Float32Array.of(dA)],
    ]);
  };
  return { weights, calls, gradients };
}

test("looks one step of the inner problem ahead, and leaves the weights as they were", async () => {
  const [w, a, rate] = [2, 0.5, 0.1];
  const { weights, calls, gradients } = problem(w, a);
  const found = await unrolledGradient({ weights, rate, gradients });
  const ahead = w - rate * (w - 3 * a + a * a);
  // d²(inner)/da dw = -3 + 2a, so the correction is -rate (-3 + 2a) w'.
  expect(found.get("a")?.[0]).toBeCloseTo(5 - rate * (-3 + 2 * a) * ahead, 3);
  expect(weights.get("w")).toEqual(Float32Array.of(w));
  expect(calls).toEqual(["inner", "outer", "inner", "inner"]);
});

test("without a gradient of the weights nothing is corrected; an error leaves them alone too", async () => {
  const still = problem(0, 0);
  const found = await unrolledGradient({ ...still, rate: 0.1 });
  expect(found.get("a")).toEqual(Float32Array.of(5));
  const { weights, gradients } = problem(2, 1);
  const failing = async (of: "inner" | "outer") => {
    if (of === "outer") throw new Error("stop");
    return gradients(of);
  };
  await expect(unrolledGradient({ weights, rate: 1, gradients: failing })).rejects.toThrow("stop");
  expect(weights.get("w")).toEqual(Float32Array.of(2));
});
