import { transposed } from "../adapters/operands.ts";
import type { Builder } from "../graph/builder.ts";
import { type FrozenProduct, frozenMatrix, productKey } from "../int8/frozen-products.ts";
import { addErrorOutputs, ERRORS, type ProductError, productErrors } from "../int8/measure-errors.ts";
import { convertibleProducts, createInt8Plan, type Int8Plan, keepInFloat32 } from "../int8/plan.ts";
import type { WeightBits } from "../int8/quantize-columns.ts";
import { chooseSmoothing, type Matrix } from "../int8/smoothing.ts";
import { detectWeightBits } from "../int8/weight-bits.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model, TensorData, Value } from "../onnx/ir.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs } from "../runtime/runtime.ts";
import { type ForwardRunOptions, runForward } from "./forward-runs.ts";
import { collectStatistics, type ValueStatistics } from "./input-statistics.ts";
import { buildEvaluationProgram } from "./program.ts";
import type { Int8Event } from "./training-run.ts";

/**
 * Largest relative error of a product that is accepted. Errors of different products are independent, so their squares add
 * up: a model of 12 layers with 6 products in both directions stays at a cosine of 0.99 of its gradient (a relative error of
 * 0.14) when the root mean square of all 144 is below 0.012; most are, and single ones may be well above.
 */
export const LARGEST_ERROR = 0.05;

/** Smoothing costs a multiplication of x; it is kept where the measured error of the forward falls below this share. */
const WORTHWHILE = 0.8;

export interface PlanInt8Options extends ForwardRunOptions {
  readonly model: Model;
  /** The float32 graph with adapter and loss, dropout off; a new one at every call. */
  readonly build: () => { readonly g: Builder; readonly loss: Value };
  /** Some feeds of real data; a few micro-batches are enough. */
  readonly batches: readonly Feeds[];
  /** Default: measured on this machine. */
  readonly bits?: WeightBits;
  /** Where weights go: see `createTensorFile`. */
  readonly store?: (tensor: TensorData) => TensorData;
  /** Default {@link LARGEST_ERROR}. */
  readonly largestError?: number;
}

/** A plan and what was measured for it: errors of all products, those that stay in float32 included. */
export interface CalibratedPlan {
  readonly plan: Int8Plan;
  readonly errors: readonly ProductError[];
}

/**
 * A plan for 8-bit arithmetic, calibrated on real data: the error of each product is measured forward and backward, on the
 * inputs and gradients of the float32 model; where some channels of an input are far larger than the others it is measured
 * with smoothing too, and the better form taken; products above `largestError` stay in float32. Costs one or two passes over
 * the batches in float32, and some seconds for quantising a model of 100 M weights.
 *
 * @throws PeftError NO_DATA, and those of `createEngineProcess`
 */
export async function planInt8(options: PlanInt8Options): Promise<CalibratedPlan> {
  const { store, largestError = LARGEST_ERROR } = options;
  const model = prepareModel(options.model);
  const bits = options.bits ?? (await detectWeightBits(onnxruntimeNode));
  const products = [...convertibleProducts(model).values()];
  const stored = store ? { store } : {};
  const plan = createInt8Plan(model, { bits, ...stored });
  // Layers that are integers in the file have nothing to be measured against: the rounded form is the model.
  if ([...plan.linears.values()].every(({ forward }) => forward === null)) return { plan, errors: [] };
  const { errors, statistics } = await measure(plan, options, [...new Set(products.map(({ input }) => input))]);
  const linears = new Map(plan.linears);
  const smoothing = smoothingFactors(model, products, bits, statistics);
  if (smoothing.size > 0) {
    const keep = new Map([...plan.linears.keys()].filter((key) => !smoothing.has(key)).map((key) => [key, "as it is"]));
    const smoothed = createInt8Plan(model, { bits, smoothing, keep, storeOthers: false, ...stored });
    for (const [key, error] of (await measure(smoothed, options)).errors) {
      const linear = smoothed.linears.get(key);
      if (!linear || !(error.forward < WORTHWHILE * (errors.get(key)?.forward ?? 0))) continue;
      errors.set(key, error);
      linears.set(key, linear);
    }
  }
  const reasons = new Map<string, string>();
  for (const [key, { forward, backward }] of errors) {
    // Not "above": an error that is not a number is too large as well.
    if (!(Math.max(forward, backward) <= largestError)) {
      reasons.set(key, `relative error ${forward.toFixed(3)} forward, ${backward.toFixed(3)} backward`);
    }
  }
  return { plan: keepInFloat32(model, { ...plan, linears }, reasons, store), errors: [...errors.values()] };
}

/** Runs the float32 graph beside the planned products and compares; collects statistics of some values in the same runs. */
async function measure(
  plan: Int8Plan,
  { build, batches, ...options }: PlanInt8Options,
  values: readonly string[] = [],
): Promise<{ errors: Map<string, ProductError>; statistics: ValueStatistics }> {
  const { g, loss } = build();
  const collected = values.filter((name) => g.has(name) && g.value(name).type === "float32");
  const statistics = collectStatistics(g, collected, ["max", "min", "meanSquare"]);
  const { sums, products } = addErrorOutputs(g, loss, plan);
  const parameters = Object.keys(options.parameters ?? {}).map((name) => g.value(name));
  const program = buildEvaluationProgram(g, { [ERRORS]: sums, ...statistics.outputs }, parameters);
  const found: Float32Array[] = [];
  const onOutputs = (outputs: Outputs): void => {
    found.push(outputs[ERRORS]?.data as Float32Array);
    statistics.add(outputs);
  };
  await runForward(program, batches, onOutputs, options);
  return { errors: productErrors(products, found), statistics: statistics.result() };
}

/** What a run reports of its plan. */
export const int8Event = ({ plan, errors }: CalibratedPlan): Int8Event => ({
  type: "int8",
  step: 0,
  bits: plan.bits,
  converted: [...plan.linears.values()].map(({ name }) => name),
  kept: plan.kept,
  errors,
});

/** Smoothing factors of every product that gains by them; products of one input share theirs. */
function smoothingFactors(
  model: Model,
  products: readonly FrozenProduct[],
  bits: WeightBits,
  statistics: ValueStatistics,
): Map<string, Float32Array> {
  const factors = new Map<string, Float32Array>();
  for (const [name, { max, min, meanSquare }] of statistics) {
    if (!max || !min || !meanSquare) continue;
    const own = products.filter(({ input }) => input === name);
    const matrices = own.map((product) => matrixOf(model, product));
    const s = chooseSmoothing({ max, min, meanSquare }, matrices, bits);
    if (s) for (const product of own) factors.set(productKey(product), s);
  }
  return factors;
}

function matrixOf(model: Model, product: FrozenProduct): Matrix {
  const { flipped, inFeatures, outFeatures } = product;
  const data = frozenMatrix(model.graph, product);
  return {
    data: flipped ? transposed(data, outFeatures, inFeatures) : data,
    rows: inFeatures,
    columns: outFeatures,
  };
}
