import { PeftError } from "../errors.ts";
import type { Growth } from "../methods/step-hooks.ts";
import { findNotFinite, globalNorm } from "../optim/clip.ts";
import { createOptimizer } from "../optim/optimizer.ts";
import type { OptimizerInput, ParameterGroup } from "../optim/optimizer-config.ts";
import type { Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { createHooks } from "./method-hooks.ts";
import { gradientName } from "./output-names.ts";
import type { ProgramMember } from "./program.ts";

/** What one adapter of a training needs beside its part of the graph. */
export interface MemberSetup {
  readonly optimizer: OptimizerInput;
  readonly groups?: readonly ParameterGroup[];
  readonly seed: number | string;
  /** Steps of its whole training, for methods with a schedule. Default 0. */
  readonly totalSteps?: number;
}

/** Its part of a step. */
export interface MemberStep {
  /** Number of its step, from 0. */
  readonly step: number;
  readonly learningRateScale: number;
  /** Largest norm of the whole gradient; none by default. */
  readonly maxGradNorm?: number;
}

export interface MemberResult {
  /** Mean loss of the batch: sum of losses over sum of weights. */
  readonly loss: number;
  readonly weight: number;
  /** Norm of the whole gradient of the mean loss, before clipping. */
  readonly gradNorm: number;
}

/** Loss, weight and gradients of the mean loss of a batch. */
export interface MeanGradients {
  readonly loss: number;
  readonly weight: number;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** Everything that an engine feeds beside batches, by name. */
export type EngineTensors = Map<string, RuntimeTensor & { readonly data: Float32Array }>;

/** One adapter under training: its optimiser, its hooks, and the gradients of the batch that is being run. */
export interface Member {
  /** Outputs of the graph that are its own. */
  readonly outputs: readonly string[];
  begin(step: number): void;
  /** Adds loss and gradients of a run. Returns what is not finite, or null. */
  add(outputs: Outputs): string | null;
  /** Its trained tensors, as they are fed. */
  readonly values: ReadonlyMap<string, Float32Array>;
  /** What was added, as a mean; to be asked for once. The gradients are overwritten by the next batch. @throws PeftError EMPTY_BATCH */
  mean(step: number): MeanGradients;
  /**
   * The optimiser's step. Returns what is not finite in the gradient, with nothing changed.
   * @param given default what was added. @throws PeftError EMPTY_BATCH
   */
  update(request: MemberStep, given?: MeanGradients): MemberResult | string;
  /** True for a tensor of a method whose ranks may grow. */
  mayGrow(name: string): boolean;
  /** Puts a larger tensor in the place of one, everywhere. */
  grow(growth: Growth): void;
  /** @throws PeftError NOT_FINITE naming the parameter or state that is not */
  state(): { readonly optimizer: Map<string, Float32Array>; readonly hooks: Readonly<Record<string, Float32Array>> };
  /** @throws PeftError OPTIMIZER_STATE_MISMATCH, with nothing changed */
  restoreOptimizer(state: ReadonlyMap<string, Float32Array>): void;
  /** To be called when the parameters have their values. */
  restoreHooks(state: Readonly<Record<string, Float32Array>>): void;
}

export const NOT_FINITE_HINT = "Lower the learning rate, clip the gradient (maxGradNorm) or look at the batch.";

/**
 * @param tensors the member's parameters among them are updated in place, or replaced where they grow.
 * @throws PeftError PARAMETER, CONFIG_INVALID, PARAMETER_GROUP_INVALID
 */
export async function createMember(
  program: ProgramMember,
  setup: MemberSetup,
  tensors: EngineTensors,
): Promise<Member> {
  const own = new Map(
    program.parameters.map((name): [string, Float32Array] => {
      const data = tensors.get(name)?.data;
      if (!data) throw new PeftError("PARAMETER", `No value was given for the parameter "${name}".`);
      return [name, data];
    }),
  );
  const sums = new Map(Array.from(own, ([name, { length }]) => [name, new Float32Array(length)]));
  const { seed, totalSteps = 0 } = setup;
  const values = new Map<string, Float32Array>(Array.from(tensors, ([name, { data }]) => [name, data]));
  const hooks = await createHooks(program.hooks, { values, totalSteps, seed });
  const optimizer = createOptimizer(setup.optimizer, own, setup.groups ?? []);
  const grow = ({ name, dims, data, learningRate }: Growth): void => {
    const before = tensors.get(name)?.dims ?? dims;
    tensors.set(name, { type: "float32", dims, data });
    values.set(name, data);
    if (!own.has(name)) return;
    own.set(name, data);
    sums.set(name, new Float32Array(data.length));
    optimizer.grow({ name, values: data, dims, before, followsSchedule: learningRate !== "constant" });
  };
  let [lossSum, weight, runs] = [0, 0, 0];
  const mean = (step: number): MeanGradients => {
    if (!(weight > 0)) {
      throw new PeftError(
        "EMPTY_BATCH",
        `Step ${step}: the total weight of the batch is ${weight}; every label is ignored.`,
      );
    }
    scale(sums, 1 / weight);
    return { loss: lossSum / weight, weight, gradients: sums };
  };
  return {
    outputs: [program.lossSum, program.lossWeight, ...program.parameters.map(gradientName)],
    begin(step) {
      [lossSum, weight, runs] = [0, 0, 0];
      hooks.beforeStep?.(step);
    },
    add(outputs) {
      const loss = floats(outputs[program.lossSum], program.lossSum)[0] ?? Number.NaN;
      const runWeight = floats(outputs[program.lossWeight], program.lossWeight)[0] ?? Number.NaN;
      if (!Number.isFinite(loss + runWeight)) return `is ${loss}, its weight ${runWeight}`;
      lossSum += loss;
      weight += runWeight;
      const put = runs++ === 0 ? replace : accumulate;
      for (const [name, sum] of sums) put(sum, floats(outputs[gradientName(name)], gradientName(name)));
      return null;
    },
    values: own,
    mean,
    update({ step, learningRateScale, maxGradNorm }, given) {
      const { loss, weight, gradients } = given ?? mean(step);
      hooks.beforeUpdate?.(step, gradients);
      const norm = globalNorm(gradients);
      if (!Number.isFinite(norm)) {
        const [bad] = findNotFinite(gradients);
        return `the gradient of "${bad?.name ?? "?"}" is ${bad?.value ?? norm}`;
      }
      // The divisor is that of torch's clip_grad_norm_.
      if (maxGradNorm !== undefined && norm > maxGradNorm) scale(gradients, maxGradNorm / (norm + 1e-6));
      optimizer.step(gradients, learningRateScale, hooks.held?.());
      hooks.onStep?.(step, gradients);
      for (const growth of hooks.grow?.(step) ?? []) grow(growth);
      return { loss, weight, gradNorm: norm };
    },
    mayGrow: (name) => hooks.grow !== undefined && (own.has(name) || program.state.includes(name)),
    grow,
    state() {
      const state = optimizer.state();
      const [bad] = findNotFinite(new Map([...own, ...state]));
      if (bad) {
        const step = optimizer.stepCount() - 1;
        throw new PeftError("NOT_FINITE", `Step ${step}: its update made "${bad.name}" ${bad.value}.`, {
          hint: NOT_FINITE_HINT,
          details: { step, value: bad.name, node: null, op: null },
        });
      }
      const saved = Object.entries(hooks.state?.() ?? {}).map(([name, data]) => [name, data.slice()] as const);
      return { optimizer: state, hooks: Object.fromEntries(saved) };
    },
    restoreOptimizer: (state) => optimizer.restore(state),
    restoreHooks: (state) => hooks.restore?.(state),
  };
}

/** @throws PeftError PARAMETER when a tensor is not float32 */
export function floats(tensor: RuntimeTensor | undefined, name: string): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  const received = tensor ? tensor.type : "nothing";
  throw new PeftError("PARAMETER", `Expected float32 values for "${name}", received ${received}.`);
}

const replace = (sum: Float32Array, part: Float32Array): void => sum.set(part);

function accumulate(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number);
}

function scale(sums: ReadonlyMap<string, Float32Array>, factor: number): void {
  for (const sum of sums.values()) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) * factor;
}
