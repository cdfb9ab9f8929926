import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { addFirstPass } from "./first-pass.ts";

const states = { width: 4, name: null };
const at = { batch: "batch", training: false } as const;

test("the states of all tokens, not the one token that a pooler reads behind them", () => {
  const model = createBuilder();
  const x = model.input("x", "float32", ["batch", "tokens", 4]);
  const all = model.tanh(x);
  model.output(model.tanh(model.slice(all, [0], [1], [1])), "pooled");
  const g = createBuilder();
  g.input("x", "float32", ["batch", "tokens", 4]);
  const { hidden } = addFirstPass(g, model.finish(), states, at);
  expect(hidden.shape).toEqual(["batch", "tokens", 4]);
  expect(hidden.name).toBe(`first:${all.name}`);
});

test("one token where there is no more", () => {
  const model = createBuilder();
  model.output(model.tanh(model.input("x", "float32", ["batch", 1, 4])), "y");
  const g = createBuilder();
  g.input("x", "float32", ["batch", 1, 4]);
  expect(addFirstPass(g, model.finish(), states, at).hidden.shape).toEqual(["batch", 1, 4]);
  expect(() => addFirstPass(createBuilder(), model.finish(), { width: 5, name: null }, at)).toThrow();
});
