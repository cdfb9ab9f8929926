import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { executionOrder } from "./execution-order.ts";

test("depth first from the last node that nobody reads, later producers first", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [2]);
  const [a, b] = [g.exp(x), g.tanh(x)];
  const early = g.neg(a);
  const late = g.add(a, b);
  g.output(early, early.name);
  g.output(late, late.name);
  const ops = executionOrder(g.finish()).map((node) => node.op);
  // Add is the last leaf; of its producers Tanh comes later in the file, and so first.
  expect(ops).toEqual(["Tanh", "Exp", "Add", "Neg"]);
});
