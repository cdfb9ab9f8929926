import { expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { seededRandom } from "../testing/fuzz/seeded-random.ts";
import { decodeUtf8, parseStrictJson, plainJson } from "./strict-json.ts";
import { mutate } from "./testing/mutate.ts";

const parse = (text: string, more = {}) => parseStrictJson(text, { where: "test", code: "BAD", ...more });

test.each([
  "null",
  ' [1, -2.5e3, true ,false,null,"a\\u00e9\\n\\"", {"a":{},"b":[]}] ',
  '{"__proto__":{"x":1},"constructor":2,"":3}',
  '"\\ud83d\\ude00"',
  "0",
])("reads %s as JSON.parse does", (text) => {
  expect(plainJson(parse(text))).toEqual(JSON.parse(text));
});

test("a key __proto__ does not touch the prototype", () => {
  const value = plainJson(parse('{"__proto__":{"polluted":1}}')) as Record<string, unknown>;
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  expect(Object.keys(value)).toEqual(["__proto__"]);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});

test.each([
  '{"a":1,"a":2}',
  '{"a":1,"\\u0061":2}',
  '{"a":1,}',
  "[1,]",
  "[,]",
  "{a:1}",
  "01",
  "1.",
  "+1",
  "NaN",
  "1e999",
  '"\\x"',
  '"\u0000"',
  '"\\ud83d"',
  '"open',
  "[1 2]",
  "[1] 2",
  "",
  " ",
  "nul",
  "[".repeat(18) + "]".repeat(18),
  "[".repeat(1_000_000),
  `"${"\\n".repeat(10_000_000)}`,
])("refuses %.40s", (text) => {
  expect(() => parse(text)).toThrow(expect.objectContaining({ code: "BAD" }));
});

test("a long text with escapes needs no stack", () => {
  expect(parse(`"${"a\\n".repeat(5_000_000)}"`)).toHaveLength(10_000_000);
});

test("whole numbers only", () => {
  expect(parse("[0,12]", { wholeNumbersOnly: true })).toEqual([0, 12]);
  for (const text of ["-1", "1.0", "1e3", "1E3", "007"]) {
    expect(() => parse(text, { wholeNumbersOnly: true })).toThrow(PeftError);
  }
});

test("bytes that are not UTF-8 are refused", () => {
  expect(decodeUtf8(Uint8Array.of(0xc3, 0xa9), "test", "BAD")).toBe("é");
  expect(() => decodeUtf8(Uint8Array.of(0xc3), "test", "BAD")).toThrow(expect.objectContaining({ code: "BAD" }));
});

test("agrees with JSON.parse on 5,000 damaged texts, except where it is stricter on purpose", () => {
  const random = seededRandom(1);
  const seed = new TextEncoder().encode('{"a":[1,2.5,-3e2],"b":{"c":"d\\n\\u00e9","e":null},"f":true,"g":[[],{}]}');
  let accepted = 0;
  for (let i = 0; i < 5000; i++) {
    const text = Buffer.from(mutate(seed, random)).toString("latin1");
    let ours: unknown;
    try {
      ours = plainJson(parse(text));
    } catch (error) {
      if (!PeftError.isInstance(error)) throw error;
      if (!/once|finite|whole characters/.test(error.message)) expect(() => JSON.parse(text)).toThrow();
      continue;
    }
    expect(ours).toEqual(JSON.parse(text));
    accepted++;
  }
  expect(accepted).toBeGreaterThan(50);
});
