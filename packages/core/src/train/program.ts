import { differentiate } from "../autodiff/differentiate.ts";
import type { Builder } from "../graph/builder.ts";
import { type Draw, isDropoutMask } from "../graph/dropout.ts";
import { leavesInReverse } from "../graph/leaves-in-reverse.ts";
import { toModel } from "../graph/to-model.ts";
import { applyInt8Plan } from "../int8/apply-plan.ts";
import type { Int8Plan } from "../int8/plan.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import { isStatic, sizeOf } from "../onnx/dims.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { packedCopies, packingKeepsResults } from "../quantization/packed-copies.ts";
import { tieDequantization } from "../quantization/tie-dequantization.ts";
import { type GraphFile, type GraphPath, packGraph } from "./graph-file.ts";
import type { HookPlan } from "./method-hooks.ts";
import { gradientName, LOSS_SUM, LOSS_WEIGHT } from "./output-names.ts";

/** One adapter's part of a training program: what it trains, and which outputs are its loss. */
export interface ProgramMember {
  /** Trained graph inputs, in the order of the optimiser. */
  readonly parameters: readonly string[];
  /** Inputs whose values are kept and not trained. */
  readonly state: readonly string[];
  /** The method's work between steps. */
  readonly hooks?: HookPlan;
  readonly lossSum: string;
  readonly lossWeight: string;
}

/** A random input: what it is drawn from, and how many numbers it has, in symbols of the graph's inputs. */
export interface DropoutSite {
  readonly draw: Draw;
  readonly size: Dim;
}

/** Everything a training engine needs to make steps: plain data that can travel to another process. */
export interface TrainingProgram<G extends GraphFile | GraphPath = GraphFile> {
  readonly graph: G;
  /** Trained graph inputs, in the order of the optimiser. */
  readonly parameters: readonly string[];
  /** Inputs whose values the engine keeps and does not train: masks, indices, projections. */
  readonly state: readonly string[];
  /** The method's work between steps. */
  readonly hooks?: HookPlan;
  /** The other inputs: what a micro-batch feeds. */
  readonly inputs: readonly Value[];
  /** Inputs of parameters and state with a size that belongs to the adapter: virtual tokens make sequences, and masks, longer. */
  readonly sized: readonly Value[];
  readonly dropout: readonly DropoutSite[];
  /**
   * Frozen weights are packed for the kernels: weights of 8 bits, which have a form for either direction, and those of a few bits
   * ({@link packedCopies}).
   */
  readonly packWeights: boolean;
  /** Frozen products are computed in 8-bit integers, which only a CPU does. */
  readonly isInt8?: true;
  /** The loss compares samples with each other: a batch is one run. */
  readonly couplesSamples: boolean;
  /** Where several adapters are trained at once: the part of each, by name. */
  readonly members?: Readonly<Record<string, ProgramMember>>;
}

/** A graph that is run without training, with the same parameters fed. */
export interface EvaluationProgram<G extends GraphFile | GraphPath = GraphFile> {
  readonly graph: G;
  readonly parameters: readonly string[];
  readonly inputs: readonly Value[];
  readonly outputs: readonly string[];
  /** Weights of a few bits are packed for the kernels ({@link packedCopies}). */
  readonly packWeights: boolean;
}

/** Names of a member's loss and weight among the outputs of a graph that trains several adapters. */
export const memberLoss = (member: string): Pick<ProgramMember, "lossSum" | "lossWeight"> => ({
  lossSum: `${LOSS_SUM}:${member}`,
  lossWeight: `${LOSS_WEIGHT}:${member}`,
});

/** What a training program needs beside a loss and parameters. */
export interface ProgramExtras {
  /** Graph inputs that the engine feeds and does not train. */
  readonly state?: readonly Value[];
  readonly hooks?: HookPlan;
  /** Frozen products that are computed in 8-bit integers; default none. */
  readonly int8?: Int8Plan;
}

/**
 * Completes a forward graph into a training graph: the loss and its gradient with respect to every parameter become
 * the only outputs. For a model with an adapter, {@link buildAdapterProgram} does it all.
 * @param parameters graph inputs to train.
 * @throws PeftError as `differentiate`.
 * @example
 * const training = buildTrainingProgram(g, { sum: loss, weight: count }, [g.value("lora_A"), g.value("lora_B")]);
 */
export function buildTrainingProgram(
  g: Builder,
  loss: LossParts,
  parameters: readonly Value[],
  { state = [], hooks, int8 }: ProgramExtras = {},
): TrainingProgram {
  if (int8) applyInt8Plan(g, int8);
  const gradients = differentiate(g, [{ value: loss.sum }], parameters);
  g.output(loss.sum, LOSS_SUM);
  g.output(loss.weight, LOSS_WEIGHT);
  parameters.forEach((p, i) => {
    g.output(gradients[i] as Value, gradientName(p.name));
  });
  const graph = leavesInReverse(tieDequantization(g.finish({ name: "training", dropUnusedInputs: true })));
  const kept = new Set([...parameters, ...state].map((p) => p.name));
  const read = new Set(graph.inputs.map((v) => v.name));
  return {
    graph: packGraph(toModel(graph, g.opset)),
    parameters: parameters.map((p) => p.name),
    state: state.map((p) => p.name).filter((name) => read.has(name)),
    ...(hooks ? { hooks } : {}),
    inputs: graph.inputs.filter((v) => !kept.has(v.name) && !isDropoutMask(v.name)),
    sized: graph.inputs.filter((v) => kept.has(v.name) && !isStatic(v.shape)),
    dropout: g.dropoutPlan.sites.map(({ draw, value }) => ({ draw, size: sizeOf(value.shape) })),
    packWeights: int8 ? packingKeepsResults(graph) : packedCopies(graph) > 0,
    ...(int8 ? { isInt8: true } : {}),
    couplesSamples: loss.couplesSamples ?? false,
  };
}

/**
 * A forward graph as an evaluation program; every given output is computed.
 * @param parameters graph inputs that the engine feeds with its current values.
 */
export function buildEvaluationProgram(
  g: Builder,
  outputs: Readonly<Record<string, Value>>,
  parameters: readonly Value[],
): EvaluationProgram {
  for (const [name, value] of Object.entries(outputs)) g.output(value, name);
  const graph = tieDequantization(g.finish({ name: "evaluation", dropUnusedInputs: true }));
  const fed = new Set(parameters.map((p) => p.name));
  return {
    graph: packGraph(toModel(graph, g.opset)),
    parameters: graph.inputs.filter((v) => fed.has(v.name)).map((v) => v.name),
    inputs: graph.inputs.filter((v) => !fed.has(v.name)),
    outputs: Object.keys(outputs),
    packWeights: packedCopies(graph) > 0,
  };
}
