import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { kron, type Matrix, matrix, matrixFrom, multiply, scale } from "../linalg/matrix.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { applyMatrix, columnsOf, placesOf, refusesAxes } from "./convolution.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { kroneckerProduct } from "./kronecker.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";
import { corePlaces, tuckerMatrix, tuckerValue } from "./tucker.ts";

// 1. Config
export const lokrConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** The update is multiplied by alpha / r. */
  alpha: z.number().default(8),
  /** Factor w1 too where that is smaller. */
  decomposeBoth: z.boolean().default(false),
  /** Size of w1's sides; -1: as near to square as the width allows. */
  decomposeFactor: z.int().min(-1).max(65_536).default(-1),
  /** A factored w2 of a kernel of more than one place has a core (`tucker.ts`): fewer parameters at convolutions. */
  useEffectiveConv2d: z.boolean().default(false),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  alphaPattern: z.record(z.string(), z.number()).default({}),
});
export type LokrConfig = z.output<typeof lokrConfig>;

/**
 * Two numbers whose product is `size`, the first at most `factor` and not above the second, as near to each other as that
 * allows; `factor` itself where it divides the size.
 */
export function factorization(size: number, factor: number): [number, number] {
  if (factor > 0 && size % factor === 0) return [factor, size / factor];
  const limit = factor === -1 ? size : factor;
  let [m, n] = [1, size];
  while (m < n) {
    let next = m + 1;
    while (size % next !== 0) next++;
    if (next + size / next > m + n || next > limit) break;
    [m, n] = [next, size / next];
  }
  return m > n ? [n, m] : [m, n];
}

/** w1 [l, m] and w2 [k, n, ...places] with l·k = out and m·n = in (in a group), and which of them are products of rank r. */
function shapesOf(site: SiteShape, { r, decomposeBoth, decomposeFactor, useEffectiveConv2d }: LokrConfig) {
  const isKernel = site.kind === "conv";
  const [m, n] = factorization(isKernel ? (site.weightShape[1] ?? 0) : site.inFeatures, decomposeFactor);
  const [l, k] = factorization(site.outFeatures, decomposeFactor);
  const [splits1, splits2] = [decomposeBoth && r < Math.max(l, m) / 2, r < Math.max(k, n) / 2];
  const hasCore = useEffectiveConv2d && isKernel && placesOf(site) > 1 && splits2;
  return { l, k, m, n, splits1, splits2, hasCore };
}

/** A factor as a matrix, w2's places beside its columns: [k, n * places]. */
function factorOf(g: Builder, values: ByRole<Value>, name: "w1" | "w2"): Value {
  const [whole, core] = [values[name], name === "w2" ? values["t2"] : undefined];
  if (whole)
    return g.reshape(whole, [at(whole.shape, 0), whole.shape.slice(1).reduce<number>((a, b) => a * Number(b), 1)]);
  const [left, right] = [roleOf(values, `${name}a`), roleOf(values, `${name}b`)];
  return core ? tuckerValue(g, core, left, right) : g.matMul(left, right);
}

/** {@link factorOf} of tensors. */
function matrixOf(tensors: ByRole<AdapterTensor>, name: "w1" | "w2"): Matrix {
  const [whole, core] = [tensors[name], name === "w2" ? tensors["t2"] : undefined];
  if (whole) {
    const [rows = 1] = whole.dims;
    return matrix(rows, whole.data.length / rows, whole.data);
  }
  const [left, right] = [roleOf(tensors, `${name}a`), roleOf(tensors, `${name}b`)];
  return core ? tuckerMatrix(core, left, right) : multiply(toMatrix(left), toMatrix(right));
}

/** Where a whole w2 belongs to a kernel of one axis, `peft` takes the factors in the other order: w2 ⊗ w1. */
const isTurned = (w2: { readonly length: number } | undefined): boolean => w2?.length === 3;

/** w1 ⊗ w2 of a kernel, or turned w2 ⊗ w1, [out, in / groups * places]. */
function kernelProduct(g: Builder, w1: Value, w2: Value, site: SiteShape, turned: boolean): Value {
  const [l, m, k] = [w1.shape[0], w1.shape[1], w2.shape[0]].map(Number) as [number, number, number];
  const places = placesOf(site);
  const n = Number(w2.shape[1]) / places;
  const product = turned
    ? g.mul(g.reshape(w1, [1, l, 1, m, 1]), g.reshape(w2, [k, 1, n, 1, places]))
    : g.mul(g.reshape(w1, [l, 1, m, 1, 1]), g.reshape(w2, [1, k, 1, n, places]));
  return g.reshape(product, [site.outFeatures, columnsOf(site)]);
}

/** w2 ⊗ w1 with the places of w2 as the innermost columns. */
const turnedKron = (w1: Matrix, w2: Matrix, places: number): Matrix =>
  matrixFrom(w1.rows * w2.rows, w1.columns * w2.columns, (row, column) => {
    const pair = Math.floor(column / places);
    const [left, right] = [Math.floor(pair / w1.columns) * places + (column % places), pair % w1.columns];
    return (
      (w2.data[Math.floor(row / w1.rows) * w2.columns + left] as number) *
      (w1.data[(row % w1.rows) * w1.columns + right] as number)
    );
  });

/**
 * LoKr: W' = W + s (w1 ⊗ w2) with w1 [l, m], w2 [k, n], out = l·k, in = m·n; each may be a product of rank r. Yeh et al. 2023
 * (LyCORIS), arXiv 2309.14859. s = alpha / r always, as in `peft`. w1 starts at zero (LyCORIS: w2). At linear modules the Kronecker product
 * is never built: x is read as [m, n] and multiplied from both sides, see `kronecker.ts`. At convolutions of one or two axes the
 * kernel's places belong to w2 [k, n, ...places], and the product is as large as the kernel.
 */
export const lokr = defineMethod<LokrConfig>({
  type: "LOKR",
  paper: "2309.14859",
  kinds: ["linear", "conv"],
  identityAtStart: true,
  neutral: "empty",
  config: lokrConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [1, 2]),
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  // 2. Parameters
  parameters(site, config) {
    const { r } = config;
    const { l, k, m, n, splits1, splits2, hasCore } = shapesOf(site, config);
    const start = kaimingUniform(Math.sqrt(5));
    const kernel = site.kind === "conv" ? site.weightShape.slice(2) : [];
    const specs: Record<string, ParameterSpec> = {};
    if (splits1) {
      specs["w1a"] = { shape: [l, r], init: zeros };
      specs["w1b"] = { shape: [r, m], init: start };
    } else specs["w1"] = { shape: [l, m], init: zeros };
    if (!splits2) specs["w2"] = { shape: [k, n, ...kernel], init: start };
    else if (hasCore) {
      specs["t2"] = { shape: [r, r, ...corePlaces(site.weightShape)], init: start };
      specs["w2a"] = { shape: [r, k], init: start };
      specs["w2b"] = { shape: [r, n], init: start };
    } else {
      specs["w2a"] = { shape: [k, r], init: start };
      specs["w2b"] = { shape: [r, n * (kernel.length === 0 ? 1 : placesOf(site))], init: start };
    }
    return specs;
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { r, alpha }) {
    const w1 = g.mul(factorOf(g, values, "w1"), alpha / r);
    if (site.kind === "conv") {
      const kernel = kernelProduct(g, w1, factorOf(g, values, "w2"), site, isTurned(values["w2"]?.shape));
      return g.add(y, applyMatrix(g, x, kernel, site));
    }
    const w2 = values["w2"] ?? { left: roleOf(values, "w2a"), right: roleOf(values, "w2b") };
    return g.add(y, g.reshapeLike(kroneckerProduct(g, x, w1, w2), y));
  },
  // 4. Delta
  delta(tensors, { r, alpha }, site) {
    const [w1, w2] = [matrixOf(tensors, "w1"), matrixOf(tensors, "w2")];
    const product = isTurned(tensors["w2"]?.dims) ? turnedKron(w1, w2, placesOf(site)) : kron(w1, w2);
    return { weight: addToWeight(site, scale(product, alpha / r)) };
  },
  // 5. Keys
  keys: {
    w1: "lokr_w1",
    w1a: "lokr_w1_a",
    w1b: "lokr_w1_b",
    w2: "lokr_w2",
    t2: "lokr_t2",
    w2a: "lokr_w2_a",
    w2b: "lokr_w2_b",
  },
});
