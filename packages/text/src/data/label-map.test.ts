import { expect, test } from "vitest";
import { buildLabelMap, labelId, multiHot } from "./label-map.ts";

test("ids do not depend on the order of the rows", () => {
  const expected = { labels: ["ham", "spam"], id2label: { 0: "ham", 1: "spam" }, label2id: { ham: 0, spam: 1 } };
  expect(buildLabelMap(["spam", "ham", "spam"])).toEqual(expected);
  expect(buildLabelMap([["ham"], [], ["spam", "ham"]])).toEqual(expected);
});

test("numbers sort as numbers, but only when all are", () => {
  expect(buildLabelMap(["10", "9", "-1", "0"]).labels).toEqual(["-1", "0", "9", "10"]);
  expect(buildLabelMap(["10", "9", "x"]).labels).toEqual(["10", "9", "x"]);
  expect(buildLabelMap(["10", "9", "09"]).labels).toEqual(["09", "10", "9"]);
});

test("unknown labels, and names that every object has", () => {
  const map = buildLabelMap(["a", "__proto__"]);
  expect(labelId(map, "__proto__")).toBe(0);
  expect(multiHot(map, ["a"])).toEqual([0, 1]);
  for (const label of ["b", "constructor", ""]) {
    expect(() => labelId(map, label)).toThrow(expect.objectContaining({ code: "LABEL_UNKNOWN" }));
  }
  expect(() => buildLabelMap([[]])).toThrow(expect.objectContaining({ code: "LABELS_MISSING" }));
});
