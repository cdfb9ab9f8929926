import { expect, test } from "vitest";
import { gatesOf, moduleTable, placeOf, selectModules } from "./module-table.ts";

const types = ["attention.q", "attention.v", "up"];
const names = [0, 1].flatMap((layer) => types.map((type) => `encoder.layer.${layer}.${type}`));
const gates = [0.9, 0.1, 0.4, 0.4, 0.8, 0.2];
const short = (selected: readonly string[]): string[] => selected.map((name) => name.replace("encoder.layer.", ""));
const select = (ratio: number, selection: "global" | "perLayer", of = gates): string[] =>
  short(selectModules(names, of, { ratio, selection }));

test("places of modules, and their gates as a table", () => {
  expect(placeOf("bert.encoder.layer.11.output.dense")).toEqual({
    layer: "bert.encoder.layer.11",
    type: "output.dense",
  });
  expect(placeOf("pooler.dense")).toEqual({ layer: "", type: "pooler.dense" });
  expect(moduleTable([...names, "pooler"], [...gates, 0.5])).toEqual({
    layers: ["encoder.layer.0", "encoder.layer.1", ""],
    types: [...types, "pooler"],
    gates: [
      [0.9, 0.1, 0.4, null],
      [0.4, 0.8, 0.2, null],
      [null, null, null, 0.5],
    ],
  });
});

test("the largest gates are kept; equal ones by layer, then by module; halves are rounded up", () => {
  expect(select(0.5, "global")).toEqual(["0.attention.q", "1.attention.v", "0.up"]);
  expect(select(1, "global")).toHaveLength(6);
  expect(select(0.25, "global")).toEqual(["0.attention.q", "1.attention.v"]); // 1.5
  expect(select(0.01, "global")).toEqual(["0.attention.q"]);
  expect(select(0.34, "global", [1, 1, 1, 1, 1, 1])).toEqual(["0.attention.q", "0.attention.v"]); // 2.04
  expect(select(0.34, "perLayer")).toEqual(["0.attention.q", "1.attention.v"]);
  expect(select(0.5, "perLayer")).toEqual(["0.attention.q", "1.attention.v", "0.up", "1.attention.q"]); // 1.5 each
});

test("gates of a layer's softmax have mean 1; sigmoid begins at one half", () => {
  const logits = [1, 2, 3, -4, 0, 0.5];
  const found = gatesOf(names, logits, "rowSoftmax");
  expect((found[0]! + found[1]! + found[2]!) / 3).toBeCloseTo(1, 12);
  expect(found[1]! / found[0]!).toBeCloseTo(Math.E, 12);
  expect(
    gatesOf(
      names,
      logits.map(() => 0),
      "rowSoftmax",
    ),
  ).toEqual([1, 1, 1, 1, 1, 1]);
  expect(gatesOf(names, [0, 2], "sigmoid")).toEqual([0.5, 1 / (1 + Math.exp(-2))]);
});
