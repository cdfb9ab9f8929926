import fc from "fast-check";
import { describe, expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { PeftError } from "../errors.ts";
import { editDistance, nearestName } from "./nearest-name.ts";
import { type ConfigProblem, parseConfig } from "./parse-config.ts";

const schema = z.strictObject({
  learningRate: z.number().positive(),
  weightDecay: z.number().min(0).default(0),
  mode: z.enum(["min", "max"]).default("min"),
  targetModules: z.union([z.literal("all-linear"), z.array(z.string())]).optional(),
  optimizer: z
    .discriminatedUnion("type", [
      z.strictObject({ type: z.literal("adamw"), betas: z.tuple([z.number(), z.number()]).optional() }),
      z.strictObject({ type: z.literal("sgd"), momentum: z.number().lt(1).default(0) }),
    ])
    .optional(),
  groups: z.array(z.strictObject({ names: z.array(z.string()), learningRate: z.number() })).optional(),
  ranks: z.record(z.string(), z.strictObject({ alpha: z.number() })).optional(),
});

function problemsOf(input: unknown): ConfigProblem[] {
  try {
    parseConfig(schema, input, "training");
  } catch (error) {
    if (PeftError.isInstance(error) && error.code === "CONFIG_INVALID")
      return error.details.problems as ConfigProblem[];
    throw error;
  }
  return [];
}

describe("parseConfig", () => {
  test("returns the typed value with defaults", () => {
    const parsed = parseConfig(schema, { learningRate: 1e-3 }, "training");
    expect(parsed).toEqual({ learningRate: 1e-3, weightDecay: 0, mode: "min" });
    expectTypeOf(parsed.mode).toEqualTypeOf<"min" | "max">();
  });

  test("lists all problems in one error, with place, expectation and value", () => {
    const input = { learningRate: -1, weight_decay: 0.1, mode: "maxx", groups: [{ names: "a", learningRate: 1 }] };
    expect(() => parseConfig(schema, input, "training")).toThrow(
      expect.objectContaining({
        code: "CONFIG_INVALID",
        message: [
          'expected a valid configuration at "training", received 4 problems:',
          "  learningRate: expected number to be >0, received -1",
          '  mode: expected one of "min", "max", received "maxx"; did you mean "max"?',
          '  groups[0].names: expected array, received "a"',
          '  weight_decay: unknown key "weight_decay"; did you mean "weightDecay"?',
        ].join("\n"),
      }),
    );
  });

  test("a missing value is called missing", () => {
    expect(problemsOf({})).toEqual([{ path: "learningRate", problem: "expected number, received nothing" }]);
    expect(problemsOf(null)[0]?.problem).toBe("expected object, received null");
  });

  test("unknown keys are looked up at their own depth and in the chosen alternative only", () => {
    const at = (extra: object) => problemsOf({ learningRate: 1, ...extra });
    expect(at({ optimizer: { type: "sgd", momentun: 0.9 } })).toEqual([
      { path: "optimizer.momentun", problem: 'unknown key "momentun"; did you mean "momentum"?' },
    ]);
    expect(at({ optimizer: { type: "adamw", momentum: 0.9 } })[0]?.problem).toBe(
      'unknown key "momentum"; known keys: type, betas',
    );
    expect(at({ groups: [{ names: [], learningRate: 1, learning_rat: 2 }] })[0]).toEqual({
      path: "groups[0].learning_rat",
      problem: 'unknown key "learning_rat"; did you mean "learningRate"?',
    });
    expect(at({ ranks: { "encoder.layer": { alpha: 1, alhpa: 2 } } })[0]?.problem).toContain('did you mean "alpha"?');
  });

  test("a wrong discriminator names the choices", () => {
    expect(problemsOf({ learningRate: 1, optimizer: { type: "adam" } })).toEqual([
      {
        path: "optimizer.type",
        problem: 'expected one of "adamw", "sgd", received "adam"; did you mean "adamw"?',
      },
    ]);
  });

  test("a plain union says why each alternative fails", () => {
    const [first] = problemsOf({ learningRate: 1, targetModules: "all-lin" });
    expect(first?.path).toBe("targetModules");
    expect(first?.problem).toContain('received "all-lin", and no alternative fits');
    expect(first?.problem).toContain("expected array");
  });

  test("any JSON gives either a value or CONFIG_INVALID", () => {
    fc.assert(fc.property(fc.jsonValue(), (input) => problemsOf(input).length >= 0));
  });
});

describe("nearestName", () => {
  test.each([
    ["weight_decay", "weightDecay"],
    ["learnigRate", "learningRate"],
    ["lerningrate", "learningRate"],
    ["warmup", "warmupSteps"],
    ["xyz", undefined],
    ["", undefined],
    ["lr", undefined],
  ])("%s -> %s", (name, expected) => {
    expect(nearestName(name, ["weightDecay", "learningRate", "warmupSteps", "r"])).toBe(expected);
  });

  test("edit distance: known values, symmetry, triangle with insertion", () => {
    expect(editDistance("kitten", "sitting")).toBe(3);
    expect(editDistance("momentmu", "momentum")).toBe(1); // a swap of neighbours costs one
    expect(editDistance("", "abc")).toBe(3);
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, a)).toBe(0);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});
