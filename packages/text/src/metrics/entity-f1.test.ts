import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { entitiesOf } from "./entities.ts";
import { entityF1 } from "./entity-f1.ts";

/** Numbers that Python makes as well: x <- (1103515245 x + 12345) mod 2^31, the upper half modulo `below`. */
function congruential(count: number, below: number, seed: number): number[] {
  let x = BigInt(seed);
  return Array.from({ length: count }, () => {
    x = (x * 1103515245n + 12345n) % 2147483648n;
    return Number(x >> 16n) % below;
  });
}
const bio = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "O"];
const bioes = [...bio.slice(0, 5), "E-PER", "S-PER", "E-LOC", "S-LOC", "O"];
const sentences = (tags: string[], seed: number) => {
  const flat = congruential(2000, tags.length, seed).map((i) => tags[i]!);
  return Array.from({ length: 200 }, (_, i) => flat.slice(10 * i, 10 * i + 10));
};

/** seqeval 1.2.2 on 200 random sentences, most of them malformed; four fifths of the tags are right. */
describe("golden numbers of seqeval", () => {
  test.each([
    [
      "BIO",
      bio,
      [0.825112107623, 0.809384164223, 0.817172464841, 682],
      0.817438464748,
      0.817170534527,
      0.8235294117647058,
    ],
    [
      "BIOES",
      bioes,
      [0.81179138322, 0.830626450116, 0.821100917431, 431],
      0.819467571612,
      0.821946012832,
      0.7799043062200958,
    ],
    [
      "lenient",
      bio,
      [0.807624113475, 0.790798611111, 0.799122807018, 1152],
      0.799147236756,
      0.799119908199,
      0.8003581020590869,
    ],
    [
      "lenient",
      bioes,
      [0.832315003394, 0.832315003394, 0.832315003394, 1473],
      0.83231007972,
      0.832313772476,
      0.8341232227488151,
    ],
  ] as const)("%s over %j", (scheme, tags, micro, macroF1, weightedF1, personF1) => {
    const labels = sentences([...tags], 11);
    const other = sentences([...tags], 12);
    const dice = congruential(2000, 10, 13);
    const predictions = labels.map((row, s) => row.map((tag, t) => (dice[10 * s + t]! < 8 ? tag : other[s]![t]!)));
    const scores = entityF1(predictions, labels, scheme);
    const { precision, recall, f1, support } = scores;
    expect([precision, recall, f1, support]).toEqual(micro.map((x) => expect.closeTo(x, 11)));
    expect(scores.macro.f1).toBeCloseTo(macroF1, 11);
    expect(scores.weighted.f1).toBeCloseTo(weightedF1, 11);
    expect(scores.perType["PER"]?.f1).toBeCloseTo(personF1, 11);
  });
});

describe("entitiesOf, by hand", () => {
  const spans = (tags: string, scheme: "BIO" | "BIOES" | "lenient") =>
    entitiesOf(tags.split(" "), scheme).map(({ type, start, end }) => `${type}${start}-${end}`);

  test.each([
    ["B-a I-a O B-a B-b", "BIO", ["a0-1", "a3-3", "b4-4"]],
    ["I-a B-a I-b I-a", "BIO", ["a1-1"]],
    ["S-a B-a I-a E-a B-a E-a", "BIOES", ["a0-0", "a1-3", "a4-5"]],
    ["B-a I-a O E-a B-a E-b S-b", "BIOES", ["b6-6"]],
    ["B-a B-a E-a I-a", "BIOES", ["a1-2"]],
    ["I-a B-a I-b I-a", "lenient", ["a0-0", "a1-1", "b2-2", "a3-3"]],
    ["E-a I-a E-a S-a I-a", "lenient", ["a0-0", "a1-2", "a3-3", "a4-4"]],
  ] as const)("%s as %s", (tags, scheme, expected) => {
    expect(spans(tags, scheme)).toEqual(expected);
  });

  test("types may contain dashes; unknown tags are refused with their place", () => {
    expect(spans("B-drug-name I-drug-name", "BIO")).toEqual(["drug-name0-1"]);
    for (const tag of ["S-a", "X-a", "B", "B-", "B_a", "o", "", "O-a"]) {
      expect(() => entitiesOf(["O", tag], "BIO"), tag).toThrow(
        expect.objectContaining({ code: "TAG_INVALID", message: expect.stringContaining("at token 1") }),
      );
    }
  });

  test("different lengths are refused", () => {
    for (const predictions of [[["O"]], [["O"], ["O", "O"]]]) {
      expect(() => entityF1(predictions, [["O"], ["O"]])).toThrow(expect.objectContaining({ code: "METRIC_INPUT" }));
    }
  });
});

test("property: written entities are read back, and score 1 against themselves", () => {
  const pieces = fc.array(fc.record({ type: fc.constantFrom("a", "b", "O"), length: fc.integer({ min: 1, max: 4 }) }));
  fc.assert(
    fc.property(pieces, (parts) => {
      const tags = { BIO: [] as string[], BIOES: [] as string[] };
      const expected: { type: string; start: number; end: number }[] = [];
      for (const { type, length } of parts) {
        const start = tags.BIO.length;
        if (type !== "O") expected.push({ type, start, end: start + length - 1 });
        for (let i = 0; i < length; i++) {
          const first = i === 0;
          const last = i === length - 1;
          tags.BIO.push(type === "O" ? "O" : `${first ? "B" : "I"}-${type}`);
          tags.BIOES.push(type === "O" ? "O" : `${first && last ? "S" : first ? "B" : last ? "E" : "I"}-${type}`);
        }
      }
      expect(entitiesOf(tags.BIO, "BIO")).toEqual(expected);
      expect(entitiesOf(tags.BIO, "lenient")).toEqual(expected);
      expect(entitiesOf(tags.BIOES, "BIOES")).toEqual(expected);
      expect(entityF1([tags.BIO], [tags.BIO]).f1).toBe(expected.length > 0 ? 1 : 0);
    }),
  );
});
