import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { AttributeInput } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import type { CheckedFunction } from "../testing/check-gradient.ts";
import { gradientAt } from "../testing/gradient-at.ts";
import { runBuilder } from "../testing/run-graph.ts";

interface Numbers {
  readonly shape: number[];
  readonly data: number[];
}

interface Case {
  readonly name: string;
  readonly op: string;
  readonly attributes: Readonly<Record<string, AttributeInput>>;
  readonly inputs: readonly Numbers[];
  readonly constants: readonly (Numbers & { type: "float32" | "int64" })[];
  readonly output: Numbers;
  readonly dOutput: number[];
  readonly gradients: readonly number[][];
}

/** Results and gradients of PyTorch in float64: see parity/README.md. */
const { cases } = JSON.parse(
  readFileSync(new URL("../../../../parity/golden/spatial.json", import.meta.url), "utf8"),
) as { cases: Case[] };

const close = (found: ArrayLike<number>, expected: readonly number[]): void => {
  expect(found.length).toBe(expected.length);
  const scale = Math.max(1, ...expected.map(Math.abs));
  const worst = expected.reduce((w, v, i) => Math.max(w, Math.abs(v - found[i]!)), 0);
  expect(worst / scale).toBeLessThan(2e-5);
};

const names = [...new Set(cases.map(({ name }) => name.split("/")[0]!))];

describe.each(names)("%s", (group) => {
  test.each(cases.filter(({ name }) => name.split("/")[0] === group))("$name", async (given) => {
    const { op, attributes, inputs, constants, output, dOutput, gradients } = given;
    const count = attributes["training_mode"] === 1 ? 3 : 1;
    const f: CheckedFunction = (g, v) => {
      const fixed = constants.map(({ type, shape, data }, i) => g.initializer(`c${i}`, tensorFrom(type, shape, data)));
      return g.op(op, [...v, ...fixed], attributes, { count })[0]!;
    };
    const g = createBuilder();
    const x = inputs.map(({ shape }, i) => g.input(`x${i}`, "float32", shape));
    g.output([f(g, x)].flat()[0]!, "y");
    const feeds = inputs.map(({ shape, data }, i) => {
      return [`x${i}`, { type: "float32", dims: shape, data: Float32Array.from(data) }] as const;
    });
    const { y } = await runBuilder(g, Object.fromEntries(feeds));
    expect(y!.dims).toEqual(output.shape);
    close(y!.data as Float32Array, output.data);
    const found = await gradientAt(
      f,
      inputs.map(({ shape, data }) => ({ dims: shape, data })),
      dOutput,
    );
    gradients.forEach((expected, i) => {
      close(found[i]!, expected);
    });
  });
});
