import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import { identity, type Matrix, multiply, scale, scaleColumns, subtract, transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { columnsOf, refusesAxes, refusesGroups, weightMatrix, withKernel } from "./convolution.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { type Init, kaimingUniform } from "./init.ts";
import { defineMethod } from "./method.ts";
import { eye } from "./orthogonal.ts";

// 1. Config
export const hraConfig = z.strictObject({
  /** Number of reflections; an even one starts as the identity. */
  r: z.int().positive().max(4096).default(8),
  /** Make the directions orthogonal first (Gram-Schmidt). */
  applyGS: z.boolean().default(false),
  rankPattern: z.record(z.string(), z.int().positive().max(4096)).default({}),
});
export type HraConfig = z.output<typeof hraConfig>;

/** Directions in equal pairs, which reflect twice and so not at all. */
const pairs: Init = (input) => {
  const [size = 0, r = 0] = input.shape;
  const start = kaimingUniform(Math.sqrt(5));
  if (r % 2 !== 0) return start(input);
  const half = start({ ...input, shape: [size, r / 2] });
  return Float32Array.from(
    { length: size * r },
    (_, i) => half[Math.floor(i / r) * (r / 2) + Math.floor((i % r) / 2)] as number,
  );
};

const columnOf = (m: Matrix, j: number): number[] =>
  Array.from({ length: m.rows }, (_, i) => m.data[i * m.columns + j] as number);
const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);

/** Columns made orthonormal one after the other. */
function gramSchmidt(u: Matrix): Matrix {
  const done: number[][] = [];
  for (let j = 0; j < u.columns; j++) {
    const column = done.reduce(
      (rest, q) => {
        const share = dot(q, rest);
        return rest.map((x, i) => x - share * (q[i] as number));
      },
      columnOf(u, j),
    );
    const norm = Math.sqrt(dot(column, column));
    done.push(column.map((x) => x / norm));
  }
  return {
    rows: u.rows,
    columns: u.columns,
    data: Float64Array.from(
      { length: u.data.length },
      (_, i) => done[i % u.columns]?.[Math.floor(i / u.columns)] as number,
    ),
  };
}

/** The product of reflections H [in, in], W' = W·H. */
function reflections(u: Matrix, applyGS: boolean): Matrix {
  if (applyGS) {
    const q = gramSchmidt(u);
    return subtract(identity(u.rows), scale(multiply(q, transpose(q)), 2));
  }
  const norms = Array.from({ length: u.columns }, (_, j) => Math.sqrt(dot(columnOf(u, j), columnOf(u, j))));
  const unit = scaleColumns(
    u,
    norms.map((n) => 1 / n),
  );
  let product = identity(u.rows);
  for (let j = 0; j < u.columns; j++) {
    const column = { rows: u.rows, columns: 1, data: Float64Array.from(columnOf(unit, j)) };
    product = subtract(product, scale(multiply(multiply(product, column), transpose(column)), 2));
  }
  return product;
}

/** Columns of length 1; a column of zeros, which stands for no reflection, stays one. */
const unitColumns = (g: Builder, u: Value): Value => g.div(u, g.sqrt(g.max(g.reduceSum(g.mul(u, u), [0]), 1e-30)));

function gramSchmidtValue(g: Builder, u: Value, r: number): Value {
  const columns = g.split(
    u,
    Array.from({ length: r }, () => 1),
    1,
  );
  const done: Value[] = [];
  for (const column of columns) {
    const basis = done.length === 0 ? null : g.concat(done, 1);
    const rest = basis ? g.sub(column, g.matMul(basis, g.fusedMatMul(basis, column, { transA: true }))) : column;
    done.push(unitColumns(g, rest));
  }
  return g.concat(done, 1);
}

/**
 * T of H_0·H_1···H_(r-1) = I - U·T·Uᵀ, H_i = I - 2 u_i u_iᵀ for unit columns (Schreiber and Van Loan's compact form): T = 2 (I + N)^-1, N twice the strict
 * upper triangle of UᵀU. N^r = 0, so the inverse is the product of (I + M), (I + M²), (I + M⁴), ... with M = -N.
 */
function compactFactor(g: Builder, unit: Value, r: number): Value {
  const above = Array.from({ length: r * r }, (_, i) => (i % r > Math.floor(i / r) ? -2 : 0));
  let power = g.mul(g.fusedMatMul(unit, unit, { transA: true }), g.constant("float32", above, [r, r]));
  let inverse = g.add(eye(g, r), power);
  for (let reached = 2; reached < r; reached *= 2) {
    power = g.matMul(power, power);
    inverse = g.matMul(inverse, g.add(eye(g, r), power));
  }
  return g.mul(inverse, 2);
}

/**
 * HRA: W' = W·H with H a product of r Householder reflections I - 2 u_i u_iᵀ / |u_i|². Yuan et al. 2024, arXiv 2405.17484. u [in, r] starts in equal
 * pairs, which cancel. Computed on x as x - ((x·U)·Tᵀ)·Uᵀ, which costs what LoRA costs; with `applyGS` T = 2 I. Parameters: r·in.
 * At convolutions of two axes u [in * places, r] reflects what a kernel sees at once, and the kernel is computed, W - ((W·U)·T)·Uᵀ. `peft`
 * convolves there with one stride and padding for both axes and without dilation, also where the module has others, and has no kernels but square ones.
 */
export const hra = defineMethod<HraConfig>({
  type: "HRA",
  paper: "2405.17484",
  kinds: ["linear", "conv"],
  identityAtStart: ({ r, applyGS }) => (r % 2 === 0 && !applyGS ? "rounded" : false),
  neutral: "empty",
  config: hraConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [2]) ?? refusesGroups(site),
  patterns: { r: "rankPattern" },
  // 2. Parameters
  parameters: (site, { r }) => ({ u: { shape: [columnsOf(site), r], init: pairs } }),
  // 3. Forward
  forward(g, at, values, { r, applyGS }) {
    const { x, site, base } = at;
    const u = roleOf(values, "u");
    const unit = applyGS ? gramSchmidtValue(g, u, r) : unitColumns(g, u);
    const isKernel = site.kind === "conv";
    // Rows of W are reflected from the other side than those of x: with T and not Tᵀ.
    const reflected = (rows: Value): Value => {
      const h = g.matMul(rows, unit); // [..., r]
      const mixed = applyGS ? g.mul(h, 2) : g.fusedMatMul(h, compactFactor(g, unit, r), { transB: !isKernel });
      return g.sub(rows, g.fusedMatMul(mixed, unit, { transB: true }));
    };
    return isKernel ? withKernel(g, at, reflected(weightMatrix(g, at))) : base(reflected(x));
  },
  // 4. Delta
  delta(tensors, { applyGS }, site, frozen) {
    const w = frozenMatrix(site, frozen);
    return {
      weight: addToWeight(site, subtract(multiply(w, reflections(toMatrix(roleOf(tensors, "u")), applyGS)), w)),
    };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { u: "hra_u" },
  peft: { names: { applyGS: "apply_GS" }, only: { bias: ["none"] } },
});
