import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type AttributeInput, float } from "../graph/attributes.ts";
import { gradientAt } from "../testing/gradient-at.ts";

type Plain = number | "nan" | "inf" | "-inf";

interface Case {
  readonly name: string;
  readonly op: string;
  readonly opset: number;
  readonly attributes: Record<string, number | string>;
  readonly axes: readonly number[] | null;
  readonly inputs: readonly { readonly dims: readonly number[]; readonly data: readonly Plain[] }[];
  readonly gradients: readonly (readonly Plain[])[];
}

const path = new URL("../../../../parity/golden/kinks.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(path, "utf8")) as { cases: Case[] };

const special = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, "-inf": Number.NEGATIVE_INFINITY } as const;
const numberOf = (v: Plain): number => (typeof v === "number" ? v : special[v]);

/** Attributes that are whole numbers in ONNX; the other numbers of the goldens are floats. */
const whole = new Set(["axis", "keepdims", "fmod"]);
const attributesOf = ({ attributes }: Case): Record<string, AttributeInput> =>
  Object.fromEntries(
    Object.entries(attributes).map(([key, v]) => [key, typeof v === "number" && !whole.has(key) ? float(v) : v]),
  );

test.each(cases)("$name as in PyTorch", async (golden) => {
  const found = await gradientAt(
    (g, values) => {
      const axes = golden.axes ? [g.ints(golden.axes)] : [];
      return g.op(golden.op, [...values, ...axes], attributesOf(golden))[0]!;
    },
    golden.inputs.map(({ dims, data }) => ({ dims, data: data.map(numberOf) })),
    weights(golden),
    golden.opset,
  );
  golden.gradients.forEach((expected, input) => {
    const scale = Math.max(1e-3, ...expected.map((v) => (typeof v === "number" ? Math.abs(v) : 0)));
    expected.map(numberOf).forEach((value, i) => {
      const own = found[input]![i]!;
      const same = Number.isFinite(value) ? Math.abs(own - value) <= 1e-5 * scale : Object.is(own, value);
      expect(same, `input ${input}, entry ${i}: expected ${value}, received ${own}`).toBe(true);
    });
  });
});

/** The output gradient 1, 2, 3, ... that the goldens were made with. */
function weights({ axes, inputs }: Case): number[] {
  const sizes = inputs.map(({ dims }) => dims.reduce((a, b) => a * b, 1));
  const reduced = axes?.reduce((n, axis) => n * (inputs[0]?.dims[axis] ?? 1), 1) ?? 1;
  const count = (axes ? sizes[0]! : Math.max(...sizes)) / reduced;
  return Array.from({ length: count }, (_, i) => i + 1);
}
