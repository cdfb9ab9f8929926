import { expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import { importGraph } from "../graph/import-graph.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model, Value } from "../onnx/ir.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { lowerModel } from "./lower-model.ts";

const inf = Number.POSITIVE_INFINITY;

/** Softmax over the last axis of x [2, 3] with 0 for NaN; `shown` keeps the Softmax itself as an output too. */
function attention(opset: number, shown = false): Model {
  const g = createBuilder(opset);
  const s = g.softmax(g.input("x", "float32", ["rows", 3]));
  const y = g.op("Where", [g.op("IsNaN", [s])[0] as Value, g.constant("float32", [0]), s])[0] as Value;
  g.output(y, "y");
  if (shown) g.output(s, "s");
  return toModel(g.finish(), opset);
}

async function run(model: Model, opset: number, x: readonly number[]) {
  const g = importGraph(model.graph, opset);
  const y = g.value("y");
  g.output(y, "y");
  const seed = g.input("dy", "float32", ["rows", 3]);
  const [dx] = differentiate(g, [{ value: y, gradient: seed }], [g.value("x")]);
  g.output(dx as Value, "dx");
  const feed = (data: readonly number[]) => ({ type: "float32" as const, dims: [2, 3], data: Float32Array.from(data) });
  const { y: values, dx: gradient } = await runBuilder(g, { x: feed(x), dy: feed([1, -2, 3, 0.5, 1, -1]) });
  return {
    y: [...((values as RuntimeTensor).data as Float32Array)],
    dx: [...((gradient as RuntimeTensor).data as Float32Array)],
  };
}

const closeTo = (values: readonly number[]) => values.map((x) => expect.closeTo(x, 6));

test.each([13, 17, 18, 21])("opset %i: values stay, rows that are masked as a whole have gradient 0", async (opset) => {
  const model = attention(opset);
  const safe = lowerModel(model);
  expect(safe.graph.nodes.map((n) => n.op)).not.toContain("IsNaN");
  const whole = [0.5, -1, 2, 1, 0, -3];
  expect((await run(safe, opset, whole)).dx).toEqual(closeTo((await run(model, opset, whole)).dx));
  const masked = [0.5, -inf, 2, -inf, -inf, -inf];
  const [plain, found] = [await run(model, opset, masked), await run(safe, opset, masked)];
  expect(plain.dx.slice(3).every(Number.isNaN)).toBe(true);
  expect(found.y).toEqual(closeTo(plain.y));
  expect(found.dx).toEqual(closeTo([...plain.dx.slice(0, 3), 0, 0, 0]));
});

test("a Softmax that somebody else reads stays beside it", () => {
  const safe = lowerModel(attention(17, true));
  expect(safe.graph.nodes.filter((n) => n.op === "Softmax")).toHaveLength(2);
});

test("another replacement than 0 is left alone", () => {
  const g = createBuilder(17);
  const s = g.softmax(g.input("x", "float32", ["rows", 3]));
  g.output(g.op("Where", [g.op("IsNaN", [s])[0] as Value, g.constant("float32", 1), s])[0] as Value, "y");
  const model = toModel(g.finish(), 17);
  expect(lowerModel(model)).toBe(model);
});
