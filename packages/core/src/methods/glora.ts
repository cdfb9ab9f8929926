import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import { add, hadamardProduct, type Matrix, matrix, multiply } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const gloraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** Form of A and B [out, in]: a product of rank r, a factor per output, one number, or none. */
  configAB: z.enum(["lora", "vector", "constant", "none"]).default("lora"),
  /** Form of C [in]. */
  configC: z.enum(["lora", "vector", "none"]).default("lora"),
  /** Form of D and E [out]. */
  configDE: z.enum(["vector", "constant", "none"]).default("constant"),
});
export type GloraConfig = z.output<typeof gloraConfig>;

const parts = ["A", "B", "C", "D", "E"] as const;
type Part = (typeof parts)[number];

const formOf = (part: Part, { configAB, configC, configDE }: GloraConfig): string =>
  part === "C" ? configC : part === "A" || part === "B" ? configAB : configDE;

/** Value of a part as a matrix, or null where it has none. */
function matrixOf(tensors: ByRole<AdapterTensor>, part: Part): Matrix | null {
  const whole = tensors[part];
  if (whole) return whole.dims.length === 2 ? toMatrix(whole) : matrix(whole.data.length, 1, whole.data);
  const d = tensors[`${part}d`];
  return d ? multiply(toMatrix(d), toMatrix(roleOf(tensors, `${part}u`))) : null;
}

/** Entry (i, j) of a matrix that is repeated along axes of size 1. */
const entry = (m: Matrix, i: number, j: number): number =>
  m.data[(m.rows === 1 ? 0 : i) * m.columns + (m.columns === 1 ? 0 : j)] as number;

const expanded = (m: Matrix, rows: number, columns: number): Matrix =>
  matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, (_, i) => entry(m, Math.floor(i / columns), i % columns)),
  );

function partValue(g: Builder, values: ByRole<Value>, part: Part): Value | null {
  const d = values[`${part}d`];
  return values[part] ?? (d ? g.matMul(d, roleOf(values, `${part}u`)) : null);
}

/**
 * GLoRA: W' = W + W ∘ A + B, c' = c + c ∘ D + E + W·C. Chavan et al. 2023, arXiv 2306.07967. Every part has a form of its own; all start at
 * zero. C, D and E act on the bias and exist only where the module has one, as in `peft`.
 */
export const glora = defineMethod<GloraConfig>({
  type: "GLORA",
  paper: "2306.07967",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: gloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures, hasBias }, config) {
    const specs: Record<string, ParameterSpec> = {};
    for (const part of parts) {
      const form = formOf(part, config);
      const onBias = part === "C" || part === "D" || part === "E";
      if (form === "none" || (onBias && !hasBias)) continue;
      const [rows, columns] = part === "C" ? [inFeatures, 1] : [outFeatures, inFeatures];
      if (form === "lora") {
        specs[`${part}d`] = { shape: [rows, config.r], init: zeros };
        specs[`${part}u`] = { shape: [config.r, columns], init: kaimingUniform(Math.sqrt(5)) };
      } else if (form === "constant") specs[part] = { shape: [1], init: zeros };
      else specs[part] = { shape: part === "D" || part === "E" ? [rows] : [rows, 1], init: zeros };
    }
    return specs;
  },
  // 3. Forward
  forward(g, { x, y, site, weight, bias }, values) {
    const of = (part: Part): Value | null => partValue(g, values, part);
    const sum = (terms: readonly (Value | null)[]): Value | null =>
      terms.reduce((a, b) => (a && b ? g.add(a, b) : (a ?? b)), null);
    const [a, b, c, d, e] = parts.map(of);
    const change = sum([a ? g.mul(weight(), a) : null, b ?? null]);
    const dense =
      change && change.shape.at(-1) !== site.inFeatures
        ? g.expand(change, [site.outFeatures, site.inFeatures])
        : change;
    const frozen = bias();
    const shift = sum([
      d && frozen ? g.mul(frozen, d) : null,
      e ?? null,
      c ? g.reshape(g.matMul(weight(), c), [site.outFeatures]) : null,
    ]);
    return sum([y, dense ? g.fusedMatMul(x, dense, { transB: true }) : null, shift]) ?? y;
  },
  // 4. Delta
  delta(tensors, _, site, frozen) {
    const w = frozenMatrix(site, frozen);
    const [a, b, c, d, e] = parts.map((part) => matrixOf(tensors, part));
    const full = (m: Matrix): Matrix => expanded(m, site.outFeatures, site.inFeatures);
    let change = matrix(site.outFeatures, site.inFeatures);
    if (a) change = add(change, hadamardProduct(w, full(a)));
    if (b) change = add(change, full(b));
    const weight = addToWeight(site, change);
    if (!site.hasBias || (!c && !d && !e)) return { weight };
    const bias = frozen.bias();
    const shift = c ? multiply(w, c).data : new Float64Array(site.outFeatures);
    const one = (m: Matrix | null | undefined, i: number): number => (m ? entry(m, i, 0) : 0);
    return { weight, bias: { add: bias.map((v, i) => v * one(d, i) + one(e, i) + (shift[i] as number)) } };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: Object.fromEntries(
    parts.flatMap((part) => [
      [part, `glora_${part}.X`],
      [`${part}d`, `glora_${part}.Xd`],
      [`${part}u`, `glora_${part}.Xu`],
    ]),
  ),
  peft: { names: { configAB: "config_A_B", configC: "config_C", configDE: "config_D_E" }, only: { bias: ["none"] } },
});
