import { readEquation } from "../einsum-equation.ts";
import type { Dim, Shape } from "../ir.ts";
import type { Infer, InferContext } from "./context.ts";
import { at, broadcast, fail, input, intAttribute, stringAttribute } from "./context.ts";

function agree(c: InferContext, a: Dim, b: Dim): void {
  if (typeof a === "number" && typeof b === "number" && a !== b) fail(c, `inner sizes ${a} and ${b} differ.`);
}

/** Shape of a product of matrices with broadcast batch axes. */
export function matMulShape(c: InferContext, a: Shape, b: Shape): Dim[] {
  if (a.length === 0 || b.length === 0) fail(c, "a factor is a scalar.");
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  agree(c, at(left, -1), at(right, -2));
  const batch = broadcast(c, [left.slice(0, -2), right.slice(0, -2)]);
  return [...batch, ...(a.length === 1 ? [] : [at(left, -2)]), ...(b.length === 1 ? [] : [at(right, -1)])];
}

const swapLast = (shape: Shape): Dim[] =>
  shape.length < 2 ? [...shape] : [...shape.slice(0, -2), at(shape, -1), at(shape, -2)];

const matMul: Infer = (c) => [{ type: input(c, 0).type, shape: matMulShape(c, input(c, 0).shape, input(c, 1).shape) }];

/** [d0, batch..., n] as [batch..., d0, n]: what FusedMatMul's transBatch flags do before anything else. */
const moveFirst = (shape: Shape): Dim[] =>
  shape.length < 3 ? [...shape] : [...shape.slice(1, -1), at(shape, 0), at(shape, -1)];

const fusedMatMul: Infer = (c) => {
  const factor = (shape: Shape, side: "A" | "B"): Shape => {
    const moved = intAttribute(c.node, `transBatch${side}`, 0) ? moveFirst(shape) : shape;
    return intAttribute(c.node, `trans${side}`, 0) ? swapLast(moved) : moved;
  };
  const a = input(c, 0);
  const [left, right] = [factor(a.shape, "A"), factor(input(c, 1).shape, "B")];
  return [{ type: a.type, shape: matMulShape(c, left, right) }];
};

const gemm: Infer = (c) => {
  const [a, b] = [input(c, 0), input(c, 1)];
  if (a.shape.length !== 2 || b.shape.length !== 2) fail(c, "Gemm takes matrices.");
  const left = intAttribute(c.node, "transA", 0) ? swapLast(a.shape) : a.shape;
  const right = intAttribute(c.node, "transB", 0) ? swapLast(b.shape) : b.shape;
  agree(c, at(left, 1), at(right, 0));
  return [{ type: a.type, shape: [at(left, 0), at(right, 1)] }];
};

const matMulInteger: Infer = (c) => [{ type: "int32", shape: matMulShape(c, input(c, 0).shape, input(c, 1).shape) }];

const einsum: Infer = (c) => {
  const text = stringAttribute(c.node, "equation", "");
  const equation = readEquation(
    text,
    c.inputs.map((_, i) => input(c, i).shape.length),
  );
  if (!equation) return fail(c, `the equation "${text}" does not fit the ranks.`);
  const sizes = new Map<string, Dim>();
  equation.terms.forEach((term, i) => {
    [...term].forEach((letter, axis) => {
      const dim = at(input(c, i).shape, axis);
      const known = sizes.get(letter);
      if (known === undefined || known === 1) sizes.set(letter, dim);
    });
  });
  const output = [...equation.output];
  return [
    { type: input(c, 0).type, shape: output.map((l) => sizes.get(l) ?? fail(c, `Einsum output "${l}" is unknown.`)) },
  ];
};

const dynamicQuantizeMatMul: Infer = (c) => [
  { type: "float32", shape: matMulShape(c, input(c, 0).shape, input(c, 1).shape) },
];

export const matrices = {
  MatMul: matMul,
  Gemm: gemm,
  MatMulInteger: matMulInteger,
  Einsum: einsum,
  "com.microsoft::FusedMatMul": fusedMatMul,
  "com.microsoft::DynamicQuantizeMatMul": dynamicQuantizeMatMul,
} satisfies Record<string, Infer>;
