import { expect, test } from "vitest";
import { runBuilder } from "../testing/run-graph.ts";
import { createBuilder } from "./builder.ts";

test("an output may have the name of another value, which others still read", async () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", [2]);
  const [y] = g.op("Mul", [x, g.constant("float32", 2)], {}, { outputs: ["y"] });
  g.output(g.add(y!, 1), "y");
  g.output(g.mul(y!, 10), "z");
  const outputs = await runBuilder(g, { x: { type: "float32", dims: [2], data: Float32Array.of(1, 2) } });
  expect([...(outputs["y"]!.data as Float32Array)]).toEqual([3, 5]);
  expect([...(outputs["z"]!.data as Float32Array)]).toEqual([20, 40]);
});
