import { differentiate } from "../autodiff/differentiate.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { createBuilder } from "../graph/builder.ts";
import type { Shape, Value } from "../onnx/ir.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { reportGradientCheck } from "./check-log.ts";
import { differentiatedOperators } from "./differentiated-operators.ts";
import { openBuilder } from "./run-graph.ts";

/** One input of the function under test. */
export interface CheckedInput {
  readonly dims: readonly number[];
  /** Values are drawn from this range (default -1 to 1)... */
  readonly range?: readonly [low: number, high: number];
  /** ...or given. */
  readonly data?: readonly number[];
  /** "int64" and "bool" inputs are fed and never differentiated. Default "float32". */
  readonly type?: "float32" | "int64" | "int32" | "bool";
  /** Not differentiated: the rule must not emit a gradient for it. */
  readonly frozen?: boolean;
  /** A constant of the graph (an initialiser) and not an input. */
  readonly constant?: boolean;
  /** Axes that keep their size where dimensions are symbolic: head sizes, hidden sizes. */
  readonly fixedAxes?: readonly number[];
}

export interface CheckOptions {
  readonly opset?: number;
  /** Largest relative error of the gradient along a random direction; default 2e-3. */
  readonly tolerance?: number;
  /** Random directions; default 2. */
  readonly directions?: number;
  /** Step of the central difference; default 1e-2, with one Richardson extrapolation. */
  readonly step?: number;
  /** Compare every entry of the Jacobian's pull-back too; default when there are at most 40 input entries. */
  readonly full?: boolean;
  /**
   * Repeat with symbolic dimensions, so that nothing about shapes is known before the run: "distinct" gives every axis
   * a symbol of its own, "shared" gives equal sizes equal symbols. Default both.
   */
  readonly symbolic?: readonly ("distinct" | "shared")[];
}

/** The function under test: adds nodes to `g` and returns one or more floating-point outputs. */
export type CheckedFunction = (g: Builder, inputs: Value[]) => Value | Value[];

/** A small deterministic generator; tests must not depend on the library's own. */
export function testRandom(seed = 1): () => number {
  let state = seed * 2654435761 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const count = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

function draw(input: CheckedInput, random: () => number): RuntimeTensor {
  const n = count(input.dims);
  const [low, high] = input.range ?? [-1, 1];
  const values = input.data ?? Array.from({ length: n }, () => low + (high - low) * random());
  const type = input.type ?? "float32";
  if (type === "int64")
    return { type, dims: input.dims, data: BigInt64Array.from(values, (v) => BigInt(Math.round(v))) };
  if (type === "int32") return { type, dims: input.dims, data: Int32Array.from(values) };
  if (type === "bool") return { type, dims: input.dims, data: Uint8Array.from(values, (v) => (v > 0 ? 1 : 0)) };
  return { type, dims: input.dims, data: Float32Array.from(values) };
}

const nameSymbols = ({ dims, fixedAxes }: CheckedInput, input: number, mode: "distinct" | "shared"): Shape =>
  dims.map((d, axis) => (fixedAxes?.includes(axis) ? d : mode === "shared" ? `n${d}` : `s${input}_${axis}`));

/**
 * Compares the gradient that the engine emits for `f` with central differences on ONNX Runtime: the pull-back of a
 * random output gradient, along random directions and, for tiny inputs, entry by entry. The outputs are summed in
 * double precision, so that float32 rounding enters only once.
 * @throws PeftError GRADIENT_CHECK naming the input, the two numbers and the shape mode.
 */
export async function checkGradient(
  f: CheckedFunction,
  inputs: readonly CheckedInput[],
  options: CheckOptions = {},
): Promise<void> {
  for (const mode of ["static", ...(options.symbolic ?? (["distinct", "shared"] as const))] as const) {
    await checkOnce(f, inputs, options, mode);
  }
}

/** Differentiation may replace an operator by its definition; what the function computes must stay the same. */
function compareOutputs(name: string, mode: string, before?: RuntimeTensor, after?: RuntimeTensor): void {
  const [a, b] = [before?.data as Float32Array, after?.data as Float32Array];
  const scale = a.reduce((most, v) => Math.max(most, Number.isFinite(v) ? Math.abs(v) : 0), 1e-2);
  const differs = a.findIndex((v, j) => !Object.is(v, b[j]) && !(Math.abs(v - (b[j] ?? Number.NaN)) <= 1e-4 * scale));
  if (differs < 0 && a.length === b.length) return;
  throw new PeftError(
    "GRADIENT_CHECK",
    `Output ${name} (${mode}): entry ${differs} is ${a[differs]} before differentiation and ${b[differs]} after it.`,
  );
}

async function checkOnce(
  f: CheckedFunction,
  specs: readonly CheckedInput[],
  options: CheckOptions,
  mode: "static" | "distinct" | "shared",
): Promise<void> {
  const random = testRandom(7);
  const g = createBuilder(options.opset ?? 21);
  const feeds: Record<string, RuntimeTensor> = {};
  const values = specs.map((spec, i) => {
    const tensor = draw(spec, random);
    const name = `x${i}`;
    if (spec.constant) {
      const { data } = tensor;
      return g.initializer(name, {
        type: tensor.type,
        dims: spec.dims,
        data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      });
    }
    feeds[name] = tensor;
    return g.input(name, tensor.type, mode === "static" ? spec.dims : nameSymbols(spec, i, mode));
  });
  const wanted = specs.flatMap((s, i) => (!s.frozen && !s.constant && (s.type ?? "float32") === "float32" ? [i] : []));
  const result = f(g, values);
  const outputs = Array.isArray(result) ? result : [result];
  outputs.forEach((y, i) => {
    g.output(y, `y${i}`);
  });
  const forward = await openBuilder(g);
  const usable = (all: Feeds, names: readonly string[]): Feeds =>
    Object.fromEntries(Object.entries(all).filter(([n]) => names.includes(n)));
  const before = await forward.run(usable(feeds, forward.inputNames));
  const seeds = outputs.map((y, i) => {
    const dims = before[`y${i}`]?.dims ?? [];
    feeds[`dy${i}`] = draw({ dims }, random);
    return { value: y, gradient: g.input(`dy${i}`, "float32", y.shape) };
  });
  const operators = differentiatedOperators(
    g,
    wanted.map((i) => values[i] as Value),
    outputs,
  );
  const gradients = differentiate(
    g,
    seeds,
    wanted.map((i) => values[i] as Value),
    { unreached: "zeros" },
  );
  gradients.forEach((dX, k) => {
    g.output(dX, `d${wanted[k]}`);
  });
  const backward = await openBuilder(g);
  const analytic = await backward.run(usable(feeds, backward.inputNames));

  outputs.forEach((_, i) => {
    compareOutputs(`y${i}`, mode, before[`y${i}`], analytic[`y${i}`]);
  });

  const evaluate = async (all: Feeds): Promise<number> => {
    const y = await forward.run(usable(all, forward.inputNames));
    let sum = 0;
    outputs.forEach((_, i) => {
      const [a, w] = [y[`y${i}`]?.data as Float32Array, feeds[`dy${i}`]?.data as Float32Array];
      for (let j = 0; j < a.length; j++) sum += (a[j] as number) * (w[j] as number);
    });
    return sum;
  };
  const shifted = (direction: ReadonlyMap<number, Float32Array>, h: number): Feeds => {
    const moved: Record<string, RuntimeTensor> = { ...feeds };
    for (const [i, d] of direction) {
      const x = feeds[`x${i}`] as RuntimeTensor;
      moved[`x${i}`] = { ...x, data: (x.data as Float32Array).map((v, j) => v + h * (d[j] as number)) };
    }
    return moved;
  };
  const h = options.step ?? 1e-2;
  const central = async (direction: ReadonlyMap<number, Float32Array>, step: number): Promise<number> =>
    ((await evaluate(shifted(direction, step))) - (await evaluate(shifted(direction, -step)))) / (2 * step);
  const numeric = async (direction: ReadonlyMap<number, Float32Array>): Promise<number> =>
    (4 * (await central(direction, h / 2)) - (await central(direction, h))) / 3;

  const gradientOf = (i: number): Float32Array => {
    const dX = analytic[`d${i}`];
    const expected = specs[i]?.dims ?? [];
    if (!dX || dX.dims.length !== expected.length || dX.dims.some((d, j) => d !== expected[j])) {
      throw new PeftError(
        "GRADIENT_CHECK",
        `Input ${i} (${mode}): expected a gradient of shape [${expected}], received [${dX?.dims}].`,
      );
    }
    return dX.data as Float32Array;
  };
  const tolerance = options.tolerance ?? 2e-3;
  const compare = (what: string, found: number, expected: number, scale: number): void => {
    if (!(Math.abs(found - expected) <= tolerance * Math.max(scale, Math.abs(expected), 1e-2))) {
      throw new PeftError(
        "GRADIENT_CHECK",
        `${what} (${mode}): finite differences give ${expected}, the rule gives ${found}.`,
      );
    }
  };
  for (let k = 0; k < (options.directions ?? 2); k++) {
    for (const group of [...wanted.map((i) => [i]), wanted]) {
      const direction = new Map(
        group.map((i) => [i, Float32Array.from({ length: count(specs[i]?.dims ?? []) }, () => random() * 2 - 1)]),
      );
      let found = 0;
      let scale = 0;
      for (const [i, d] of direction) {
        gradientOf(i).forEach((v, j) => {
          found += v * (d[j] as number);
          scale += (v * (d[j] as number)) ** 2;
        });
      }
      compare(`Direction ${k} of inputs [${group}]`, found, await numeric(direction), Math.sqrt(scale));
    }
  }
  const total = wanted.reduce((sum, i) => sum + count(specs[i]?.dims ?? []), 0);
  const entries = (options.full ?? total <= 40) && mode === "static";
  if (entries) {
    for (const i of wanted) {
      const gradient = gradientOf(i);
      const scale = Math.sqrt(gradient.reduce((s, v) => s + v * v, 0) / Math.max(1, gradient.length));
      for (let j = 0; j < gradient.length; j++) {
        const unit = new Float32Array(gradient.length);
        unit[j] = 1;
        compare(`Entry ${j} of input ${i}`, gradient[j] as number, await numeric(new Map([[i, unit]])), scale);
      }
    }
  }
  await forward.close();
  await backward.close();
  reportGradientCheck({
    operators,
    opset: g.opset,
    against: mode === "static" ? "static" : "symbolic",
    entries,
    frozen: specs.some((spec) => spec.frozen === true),
  });
}
