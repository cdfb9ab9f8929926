import type { ProductError } from "../int8/measure-errors.ts";
import type { WeightBits } from "../int8/quantize-columns.ts";
import type { Shape } from "../onnx/ir.ts";
import type { ParameterGroup } from "../optim/optimizer-config.ts";
import type { Device } from "../runtime/device.ts";
import type { Placement } from "../runtime/placement.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import type { CalibrationEvent } from "./calibration/calibrate-start.ts";
import type { TrainOptionsInput } from "./options.ts";
import type { EvaluationProgram, TrainingProgram } from "./program.ts";
import type { ProgressEvent } from "./progress.ts";

/** How samples become feeds. */
export interface TrainingData<Sample> {
  readonly samples: ArrayLike<Sample>;
  /** Tokens (or other units) of a sample, which decide how a batch is cut. */
  lengthOf(sample: Sample): number;
  /**
   * Tokens of each row that a sample takes in the model's batch, where it is not one row of `lengthOf` tokens: rows stand role
   * after role, the first row of every sample before the second of any. Needed for `prefixCache` only.
   */
  rowLengthsOf?(sample: Sample): readonly number[];
  /** Pads samples to their longest. `key` names the micro-batch, for collators that draw random numbers. */
  collate(samples: readonly Sample[], key: string): Feeds;
  /** True when a batch must be one run, for another reason than its loss (which says so itself). */
  readonly wholeBatch?: boolean;
}

export type Metrics = Readonly<Record<string, number>>;

/** How the frozen products of a run are computed in 8 bits: made before the first step. */
export interface Int8Event {
  readonly type: "int8";
  readonly step: 0;
  /** Bits of the weights: 7 where sums of products of 8 bits saturate on this processor. */
  readonly bits: WeightBits;
  /** Products that are computed in 8 bits. */
  readonly converted: readonly string[];
  /** Those that stay in float32, and why. */
  readonly kept: readonly { readonly name: string; readonly reason: string }[];
  /** What was measured on calibration batches, for all of them. */
  readonly errors: readonly ProductError[];
}

/** Activations below the adapted layers are kept: comes before the first step. */
export interface PrefixEvent {
  readonly type: "prefix";
  readonly step: 0;
  /** Names and shapes of what is kept of each sample. */
  readonly values: readonly { readonly name: string; readonly shape: Shape }[];
  /** Samples whose activations are kept, and those that did not fit. */
  readonly kept: number;
  readonly left: number;
  readonly bytes: number;
  /** Share of the products of a step, forward and backward, that is spared. */
  readonly workShare: number;
}

/** What of the training graph runs on the GPU that was asked for, and what on the CPU: comes after the first step, once. */
export interface DeviceEvent extends Placement {
  readonly type: "device";
  readonly step: number;
  readonly device: Device;
}

/** After a step "progress" comes first, then "evaluation", then "checkpoint". */
export type TrainEvent =
  | ProgressEvent
  | CalibrationEvent
  | Int8Event
  | PrefixEvent
  | DeviceEvent
  | {
      readonly type: "evaluation";
      readonly step: number;
      readonly epoch: number;
      readonly metrics: Metrics;
      /** The best one so far. */
      readonly best: boolean;
    }
  | { readonly type: "checkpoint"; readonly step: number };

export interface TrainingRun<Sample> {
  readonly training: TrainingProgram;
  readonly evaluation?: EvaluationProgram;
  /** Start values of everything that is fed as a parameter. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly groups?: readonly ParameterGroup[];
  readonly data: TrainingData<Sample>;
  /** Computes metrics with the current parameters; called every `evalSteps`. */
  readonly evaluate?: (run: (feeds: Feeds) => Promise<Outputs>) => Promise<Metrics>;
  readonly options: TrainOptionsInput;
  /**
   * Where checkpoints and metrics.jsonl go; nothing is written without it. A run that was interrupted there goes on; one
   * run at a time.
   */
  readonly folder?: string;
  /** Stops between two steps, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Called in the caller's thread; what it throws ends the run. */
  readonly onEvent?: (event: TrainEvent) => void;
}

export interface TrainingResult {
  readonly reason: "finished" | "cancelled" | "early-stopping";
  /** Optimiser steps done, those before an interruption included. */
  readonly steps: number;
  /** Parameters of the best evaluation, or the last ones when nothing was evaluated. */
  readonly parameters: Readonly<Record<string, RuntimeTensor>>;
  readonly best: { readonly step: number; readonly metrics: Metrics } | null;
  /** Mean loss of each step's batch. */
  readonly losses: readonly number[];
  readonly evaluations: readonly { readonly step: number; readonly metrics: Metrics }[];
  /** Share of padding in all tokens that were run. */
  readonly paddingShare: number;
  /** Of the process that trained; this call's only. */
  readonly peakRssBytes: number;
  /** Of this call. */
  readonly elapsedMs: number;
}
