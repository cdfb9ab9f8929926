import fc from "fast-check";
import { type AttributeInput, float } from "../../graph/attributes.ts";
import type { Builder } from "../../graph/builder.ts";
import type { Value } from "../../onnx/ir.ts";
import type { CheckedInput } from "../../testing/check-gradient.ts";
import { upTo } from "../axes.ts";

/** A function of random inputs with random attributes, to be differentiated. */
export interface RandomCase {
  /** What to print when it fails. */
  readonly label: string;
  readonly opset: number;
  readonly inputs: readonly (CheckedInput & { readonly data: readonly number[] })[];
  readonly f: (g: Builder, inputs: Value[]) => Value | Value[];
}

export type Arbitrary<T> = fc.Arbitrary<T>;

const count = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** Sizes 1 to 4: equal ones are frequent, which shared symbols need, and so are ones, which broadcast. */
const size = fc.integer({ min: 1, max: 4 });
export const shape = (min: number, max: number): Arbitrary<number[]> =>
  fc.array(size, { minLength: min, maxLength: max });

/**
 * Distinct values 0.07 apart, in random order, for several inputs at once: no ties and no kinks within the step of a
 * finite difference. They run from `from` upwards.
 */
export function spreadValues(shapes: readonly (readonly number[])[], from: number): Arbitrary<RandomCase["inputs"]> {
  const total = shapes.reduce((n, dims) => n + count(dims), 0);
  const grid = upTo(total).map((i) => from + 0.07 * i);
  return fc.shuffledSubarray(grid, { minLength: total, maxLength: total }).map((values) => {
    const rest = [...values];
    return shapes.map((dims) => ({ dims, data: rest.splice(0, count(dims)) }));
  });
}

/** A shape that broadcasts against `full`: some axes of size 1, some leading ones left out. */
export const broadcastOf = (full: readonly number[]): Arbitrary<number[]> =>
  fc
    .tuple(
      fc.integer({ min: 0, max: full.length }),
      fc.array(fc.boolean(), { minLength: full.length, maxLength: full.length }),
    )
    .map(([drop, ones]) => full.map((d, i) => (ones[i] ? 1 : d)).slice(drop));

const opset = fc.constantFrom(13, 17, 21);

export const elementwise: Arbitrary<RandomCase> = fc
  .record({
    op: fc.constantFrom("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Pow", "Where", "PRelu"),
    full: shape(0, 4),
    opset,
  })
  .chain(({ op, full, opset: version }) =>
    fc.tuple(broadcastOf(full), broadcastOf(full)).chain(([a, b]) => {
      // PRelu's slope broadcasts in one direction.
      const shapes = op === "PRelu" ? [full, b] : [a, b];
      return spreadValues(shapes, op === "PRelu" ? -0.385 : 0.5).map(
        (inputs): RandomCase => ({
          label: `${op} ${JSON.stringify(shapes)}`,
          opset: version,
          inputs,
          f: (g, [x, y]) => {
            const given =
              op === "Where" ? [g.less(x as Value, y as Value), x as Value, y as Value] : [x as Value, y as Value];
            return g.op(op, given)[0] as Value;
          },
        }),
      );
    }),
  );

const asAttribute = new Map([["ReduceSum", 13]]);

export const reductions: Arbitrary<RandomCase> = fc
  .record({
    op: fc.constantFrom("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"),
    dims: shape(1, 3), // a product or logarithm over more is beyond what float32 differences resolve
    keepdims: fc.constantFrom(0, 1),
    noop: fc.constantFrom(0, 1),
    opset,
  })
  .chain(({ op, dims, keepdims, noop, opset: version }) =>
    fc
      .tuple(fc.subarray(upTo(dims.length)), fc.boolean(), spreadValues([dims], 0.5))
      .map(([axes, negative, inputs]): RandomCase => {
        const name = `Reduce${op}`;
        const list = axes.map((a) => (negative ? a - dims.length : a));
        const isInput = version >= (asAttribute.get(name) ?? 18);
        const attributes: Record<string, AttributeInput> = { keepdims };
        if (isInput) attributes["noop_with_empty_axes"] = noop;
        else if (list.length > 0) attributes["axes"] = list;
        return {
          label: `${name} [${dims}] axes [${list}] keepdims ${keepdims} noop ${noop} opset ${version}`,
          opset: version,
          inputs,
          f: (g, [x]) => g.op(name, [x as Value, isInput ? g.ints(list) : null], attributes)[0] as Value,
        };
      }),
  );

const matMul: Arbitrary<RandomCase> = fc
  .record({
    batch: shape(0, 2),
    m: size,
    k: size,
    n: size,
    vectors: fc.constantFrom("none", "left", "right", "both"),
    opset,
  })
  .chain(({ batch, m, k, n, vectors, opset: version }) =>
    fc.tuple(broadcastOf(batch), broadcastOf(batch)).chain(([left, right]) => {
      const a = vectors === "left" || vectors === "both" ? [k] : [...left, m, k];
      const b = vectors === "right" || vectors === "both" ? [k] : [...right, k, n];
      return spreadValues([a, b], -1).map((inputs) => ({
        label: `MatMul [${a}] by [${b}]`,
        opset: version,
        inputs,
        f: (g: Builder, [x, y]: Value[]) => g.matMul(x as Value, y as Value),
      }));
    }),
  );

const gemm: Arbitrary<RandomCase> = fc
  .record({
    m: size,
    k: size,
    n: size,
    transA: fc.boolean(),
    transB: fc.boolean(),
    alpha: fc.constantFrom(1, -0.5),
    beta: fc.constantFrom(1, 2),
    opset,
  })
  .chain(({ m, k, n, transA, transB, alpha, beta, opset: version }) =>
    broadcastOf([m, n]).chain((c) => {
      const shapes = [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n], c];
      return spreadValues(shapes, -1).map((inputs) => ({
        label: `Gemm ${JSON.stringify({ shapes, transA, transB, alpha, beta })}`,
        opset: version,
        inputs,
        f: (g: Builder, [x, y, z]: Value[]) => {
          const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: float(alpha), beta: float(beta) };
          return g.op("Gemm", [x as Value, y as Value, z as Value], attributes)[0] as Value;
        },
      }));
    }),
  );

/** Terms over a few letters of fixed sizes, each letter at most once in a term, and any letters as output. */
const einsum: Arbitrary<RandomCase> = fc
  .record({
    sizes: fc.tuple(size, size, size, size),
    terms: fc.array(fc.shuffledSubarray([..."ijkl"], { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
  })
  .chain(({ sizes, terms }) => {
    const letters = [...new Set(terms.flat())];
    const shapes = terms.map((term) => term.map((l) => sizes["ijkl".indexOf(l)] ?? 1));
    return fc.tuple(fc.shuffledSubarray(letters), spreadValues(shapes, -0.9)).map(([output, inputs]) => {
      const equation = `${terms.map((t) => t.join("")).join(",")}->${output.join("")}`;
      return {
        label: `Einsum ${equation} ${JSON.stringify(shapes)}`,
        opset: 17,
        inputs,
        f: (g: Builder, x: Value[]) => g.op("Einsum", x, { equation })[0] as Value,
      };
    });
  });

export const products: Arbitrary<RandomCase> = fc.oneof(matMul, gemm, einsum);
