import type { Adapter } from "../adapters/adapter.ts";
import { adapterOf, initialParameters, parameterTensors } from "../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter, trainableValues } from "../adapters/inject.ts";
import type { AdapterParameter } from "../adapters/parameters.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import type { Site } from "../adapters/site.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { PeftError } from "../errors.ts";
import { toModel } from "../graph/to-model.ts";
import type { Method } from "../methods/method.ts";
import { evaluateDim } from "../onnx/dims.ts";
import type { Model } from "../onnx/ir.ts";
import { createRandom, streamSeed } from "../random/random.ts";
import type { Outputs, Runtime, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import type { WorkingRun } from "./find-sizes.ts";
import type { InputSizes } from "./input-sizes.ts";
import { openModel } from "./open-model.ts";
import { slopeOf } from "./slope.ts";
import { syntheticInputs } from "./synthetic-inputs.ts";
import { floatsOf, isFiniteEverywhere, outputOf } from "./vectors.ts";

/** Directions that must agree, and how many are tried: a kink spoils one or the other, a wrong gradient all. */
const directions = { needed: 2, tried: 6 } as const;

/** How analytic gradients compare with finite differences along random directions. */
export interface GradientAgreement {
  /** Largest |analytic - difference| / |analytic| over the directions. */
  readonly error: number;
  /** How far differences of two steps are from each other: what rounding and kinks allow to be seen. */
  readonly noise: number;
  readonly agrees: boolean;
  /** Rounding and kinks hide what would have to be compared. */
  readonly inconclusive: boolean;
  readonly parameters: number;
}

/** Time of one run with outputs and gradients. */
export interface StepTime extends InputSizes {
  readonly elapsedMs: number;
}

export interface GradientCheck {
  readonly agreement: GradientAgreement;
  readonly adapter: Adapter;
  /** Outputs with this adapter in effect. */
  readonly outputs: Outputs;
  readonly step: StepTime | null;
  /** Outputs that hold infinity or NaN on made-up inputs, and were left out of the loss. */
  readonly notFinite: readonly string[];
}

export interface GradientCheckOptions {
  readonly runtime: Runtime;
  readonly method: Method;
  readonly config: AdapterConfigInput;
  readonly sites: readonly Site[];
  readonly outputs: readonly string[];
  readonly run: WorkingRun;
  /** Sizes at which a step is timed, null for no timing; where the model refuses them, those of `run` are taken. */
  readonly timed: InputSizes | null;
  readonly threads?: number | undefined;
  /** The file computes in less than float32: its loss has steps, and differences are only as good as these are small. */
  readonly isRounded: boolean;
}

const lossName = (output: string): string => `check.cotangent:${output}`;

/**
 * Trains nothing: builds the graph that training would run, and compares its gradients with central differences of its loss.
 * The loss is the sum over the outputs of mean(output * random numbers), added up in double precision, so it needs no labels and
 * sees every number. Along a direction that points uphill for every parameter (random sizes, signs of the gradient) nothing
 * cancels. Of the steps, the neighbours whose differences agree best count; that choice does not look at the gradient.
 */
export async function checkGradients(model: Model, options: GradientCheckOptions): Promise<GradientCheck> {
  const { runtime, method, config, sites, run } = options;
  const finite = options.outputs.filter((name) => {
    const tensor = run.outputs[name];
    return tensor !== undefined && isFiniteEverywhere(floatsOf(tensor));
  });
  const notFinite = options.outputs.filter((name) => !finite.includes(name));
  if (finite.length === 0) {
    throw new PeftError(
      "NOT_FINITE",
      `Every output holds NaN or infinity on made-up inputs: [${notFinite.join(", ")}].`,
    );
  }
  const adapted = injectAdapter(model, { method, config, sites, wantedOutputs: finite });
  addLoss(adapted, finite);
  const { g } = adapted;
  const session = await openModel(runtime, toModel(g.finish({ dropUnusedInputs: true }), g.opset), options.threads);
  try {
    const cotangents = new Map(finite.map((name) => [name, cotangentOf(name, outputOf(run.outputs, name).dims)]));
    const values = startValues(adapted);
    const program: Program = { session, given: run.feeds, cotangents, parameters: adapted.parameters, outputs: finite };
    const { agreement, outputs } = await compare(program, values, options.isRounded);
    const step = options.timed && (await timeStep(program, values, adapted, run.sizes, options.timed));
    return { agreement, outputs, step, adapter: adapterOf(adapted, values), notFinite };
  } finally {
    await session.close();
  }
}

function addLoss(adapted: AdaptedGraph, outputs: readonly string[]): void {
  const { g } = adapted;
  const terms = outputs.map((name) => {
    const output = g.cast(g.value(name), "float32");
    g.output(g.value(name), name);
    const product = g.mul(output, g.input(lossName(name), "float32", output.shape));
    return output.shape.length === 0
      ? product
      : g.reduceMean(
          product,
          output.shape.map((_, axis) => axis),
          false,
        );
  });
  const loss = terms.reduce((sum, term) => g.add(sum, term));
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: loss }], wanted, { unreached: "zeros" }).forEach((gradient, i) => {
    g.output(gradient, `check.gradient:${wanted[i]?.name}`);
  });
}

function cotangentOf(name: string, dims: readonly number[]): RuntimeTensor {
  const random = createRandom(streamSeed("check", name));
  const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random.normal());
  return { type: "float32", dims, data };
}

/**
 * Start values of the method, moved a little: behind a zero B no gradient reaches A, and a copied weight that is still the
 * file's own would make merging look right whatever it does.
 */
function startValues(adapted: AdaptedGraph): Map<string, Float32Array> {
  const values = initialParameters(adapted, "check");
  for (const [name, data] of values) {
    const size = rootMeanSquare(data);
    const random = createRandom(streamSeed("check", "start", name));
    for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) + 0.05 * (size || 1) * random.normal();
  }
  return values;
}

function rootMeanSquare(values: Float32Array): number {
  let squares = 0;
  for (const x of values) squares += x * x;
  return Math.sqrt(squares / Math.max(values.length, 1));
}

interface Program {
  readonly session: RuntimeSession;
  readonly given: WorkingRun["feeds"];
  readonly cotangents: ReadonlyMap<string, RuntimeTensor>;
  readonly parameters: readonly AdapterParameter[];
  readonly outputs: readonly string[];
}

function feedsOf({ session, given, cotangents, parameters }: Program, values: ReadonlyMap<string, Float32Array>) {
  const feeds: Record<string, RuntimeTensor> = { ...given, ...parameterTensors(parameters, values) };
  for (const [name, tensor] of cotangents) feeds[lossName(name)] = tensor;
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)));
}

/** The loss in double precision. */
async function lossAt(program: Program, values: ReadonlyMap<string, Float32Array>): Promise<number> {
  const found = await program.session.run(feedsOf(program, values), program.outputs);
  let loss = 0;
  for (const [name, cotangent] of program.cotangents) {
    const [output, factors] = [floatsOf(outputOf(found, name)), floatsOf(cotangent)];
    let sum = 0;
    for (let i = 0; i < output.length; i++) sum += (output[i] as number) * (factors[i] as number);
    loss += sum / output.length;
  }
  return loss;
}

async function compare(program: Program, values: ReadonlyMap<string, Float32Array>, isRounded: boolean) {
  const outputs = await program.session.run(feedsOf(program, values));
  const trained = program.parameters.filter((p) => p.trainable);
  const gradients = new Map(trained.map(({ name }) => [name, floatsOf(outputOf(outputs, `check.gradient:${name}`))]));
  for (const [name, gradient] of gradients) {
    if (isFiniteEverywhere(gradient)) continue;
    throw new PeftError("GRADIENT_NOT_FINITE", `The gradient of "${name}" holds NaN or infinity on made-up inputs.`);
  }
  const judged: Direction[] = [];
  const good = (): Direction[] => judged.filter((d) => d.agrees);
  for (let i = 0; i < directions.tried && good().length < directions.needed; i++) {
    const along = directionOf(values, gradients, i);
    let analytic = 0;
    for (const [name, d] of along) {
      const gradient = gradients.get(name) as Float32Array;
      for (let k = 0; k < d.length; k++) analytic += (gradient[k] as number) * (d[k] as number);
    }
    const lossAfter = (step: number): Promise<number> => lossAt(program, moved(values, along, step));
    judged.push(judge(analytic, await slopeOf(lossAfter), isRounded));
  }
  const agrees = good().length >= directions.needed;
  const counted = agrees ? good() : judged;
  const inconclusive = !agrees && judged.some((d) => d.inconclusive);
  const [error, noise] = [Math.max(...counted.map((d) => d.error)), Math.max(...counted.map((d) => d.noise))];
  const parameters = trained.reduce((sum, { name }) => sum + (values.get(name)?.length ?? 0), 0);
  const own = Object.fromEntries(program.outputs.map((name) => [name, outputOf(outputs, name)]));
  return { agreement: { error, noise, agrees, inconclusive, parameters }, outputs: own };
}

/** The faster of two runs at the wanted sizes, or at those of the check where the model refuses them. */
async function timeStep(
  program: Program,
  values: ReadonlyMap<string, Float32Array>,
  adapted: AdaptedGraph,
  small: InputSizes,
  wanted: InputSizes,
): Promise<StepTime> {
  const timeOf = async (at: Program): Promise<number> => {
    const started = performance.now();
    await at.session.run(feedsOf(at, values));
    return performance.now() - started;
  };
  const given = syntheticInputs(adapted.model.graph, wanted, 2);
  const cotangents = cotangentsAt(adapted, given, program.outputs);
  if (cotangents) {
    const larger = { ...program, given, cotangents };
    try {
      return { ...wanted, elapsedMs: Math.min(await timeOf(larger), await timeOf(larger)) };
    } catch (error) {
      if (!PeftError.isInstance(error) || error.code !== "RUNTIME_RUN") throw error;
    }
  }
  return { ...small, elapsedMs: Math.min(await timeOf(program), await timeOf(program)) };
}

/** Cotangents of the sizes that outputs have for other inputs; null where these do not follow from the inputs' sizes. */
function cotangentsAt(
  { g }: AdaptedGraph,
  given: WorkingRun["feeds"],
  outputs: readonly string[],
): Program["cotangents"] | null {
  const sizes = new Map<string, number>();
  for (const { name, shape } of g.inputs) {
    shape.forEach((dim, axis) => {
      const size = given[name]?.dims[axis];
      if (typeof dim === "string" && size !== undefined) sizes.set(dim, size);
    });
  }
  const cotangents = new Map<string, RuntimeTensor>();
  for (const name of outputs) {
    const dims = g.value(name).shape.map((dim) => evaluateDim(dim, sizes));
    if (dims.some((dim) => dim === null)) return null;
    cotangents.set(name, cotangentOf(name, dims as number[]));
  }
  return cotangents;
}

interface Direction {
  readonly error: number;
  readonly noise: number;
  readonly agrees: boolean;
  readonly inconclusive: boolean;
}

function judge(analytic: number, measured: { slope: number; noise: number }, isRounded: boolean): Direction {
  const error = Math.abs(measured.slope - analytic) / Math.max(Math.abs(analytic), 1e-30);
  const noise = measured.noise / Math.max(Math.abs(measured.slope), 1e-30);
  // Steps of integer arithmetic have no derivative; what passes straight through them is right on average only.
  const close = error <= (isRounded ? Math.max(0.05, noise) : Math.max(2e-3, 2 * noise));
  const inconclusive = isRounded ? noise > 0.25 || (!close && error <= 0.3) : noise > 0.1;
  return { error, noise, agrees: close && !inconclusive, inconclusive };
}

/** Random sizes in proportion to the parameter's own values, with the signs of its gradient. */
function directionOf(
  values: ReadonlyMap<string, Float32Array>,
  gradients: ReadonlyMap<string, Float32Array>,
  seed: number,
): Map<string, Float32Array> {
  const along = new Map<string, Float32Array>();
  for (const [name, gradient] of gradients) {
    const random = createRandom(streamSeed("check", "direction", `${seed}`, name));
    const own = values.get(name) ?? new Float32Array();
    const scale = rootMeanSquare(own);
    along.set(
      name,
      gradient.map((d) => {
        const size = scale * random.uniform();
        return d === 0 ? (random.uniform() < 0.5 ? -size : size) : Math.sign(d) * size;
      }),
    );
  }
  return along;
}

/** The parameters after a step along a direction. */
const moved = (
  values: ReadonlyMap<string, Float32Array>,
  along: ReadonlyMap<string, Float32Array>,
  step: number,
): Map<string, Float32Array> =>
  new Map(
    [...values].map(([name, own]) => {
      const d = along.get(name);
      return [name, d ? own.map((x, i) => x + step * (d[i] as number)) : own];
    }),
  );
