/** What a training run tells its caller after a step; plain data, safe to post between threads. */
export interface ProgressEvent {
  type: "progress";
  /** Optimiser steps done, and how many there will be. */
  step: number;
  totalSteps: number;
  /** Epochs done, with fraction. */
  epoch: number;
  loss: number;
  learningRate: number;
  /** Before clipping; absent where it was not measured. */
  gradientNorm?: number;
  /** Smoothed over about the last twenty steps. */
  stepsPerSecond: number;
  samplesPerSecond: number;
  /** Tokens that carry data, without padding. */
  tokensPerSecond: number;
  /** Since this process started training; a resumed run counts anew. */
  elapsedMs: number;
  /** Estimate from the smoothed rate; 0 at the end. */
  remainingMs: number;
  /** Resident memory of the process; null where the platform does not tell (browsers). */
  residentBytes: number | null;
}

/** What the trainer knows after a step. */
export interface StepReport {
  step: number;
  epoch: number;
  loss: number;
  learningRate: number;
  gradientNorm?: number;
  /** Samples and real tokens since the last report. */
  samples: number;
  tokens: number;
}

export interface ProgressOptions {
  totalSteps: number;
  /** Steps done before this process started (resume). Default 0. */
  startStep?: number;
  /** Clock in milliseconds. Default `performance.now`. */
  now?: () => number;
  /** Resident memory in bytes. Default: that of the Node process, null elsewhere. */
  residentBytes?: () => number | null;
}

const processMemory = (): number | null =>
  typeof process === "object" && typeof process.memoryUsage === "function" ? process.memoryUsage.rss() : null;

/** Weight of the newest step: 0.05 averages over about 1 / 0.05 = 20 steps. */
const NEWEST = 0.05;

/**
 * Measures a run. Rates are ratios of exponentially smoothed sums (tokens over time, not the mean of quotients), corrected for
 * the cold start, so the first estimate is already the plain rate of the first step.
 *
 * @returns a function to call after each step, or every few steps.
 * @example
 * const report = createProgress({ totalSteps: 500 });
 * onProgress(report({ step: 1, epoch: 0.01, loss: 0.7, learningRate: 1e-4, samples: 16, tokens: 900 }));
 */
export function createProgress(options: ProgressOptions): (report: StepReport) => ProgressEvent {
  const { totalSteps, startStep = 0, now = () => performance.now(), residentBytes = processMemory } = options;
  const startedAt = now();
  let lastAt = startedAt;
  let lastStep = startStep;
  // One common factor scales all four sums, so their ratios need no further correction for the cold start.
  let milliseconds = 0;
  let steps = 0;
  let samples = 0;
  let tokens = 0;

  return (report) => {
    const at = now();
    milliseconds += NEWEST * (at - lastAt - milliseconds);
    steps += NEWEST * (report.step - lastStep - steps);
    samples += NEWEST * (report.samples - samples);
    tokens += NEWEST * (report.tokens - tokens);
    lastAt = at;
    lastStep = report.step;
    // A clock too coarse to see the step gives no rate yet rather than an infinite one.
    const perSecond = (amount: number): number => (milliseconds > 0 ? (1000 * amount) / milliseconds : 0);
    const { step, epoch, loss, learningRate, gradientNorm } = report;
    return {
      type: "progress",
      step,
      totalSteps,
      epoch,
      loss,
      learningRate,
      ...(gradientNorm === undefined ? {} : { gradientNorm }),
      stepsPerSecond: perSecond(steps),
      samplesPerSecond: perSecond(samples),
      tokensPerSecond: perSecond(tokens),
      elapsedMs: at - startedAt,
      remainingMs: steps > 0 ? (Math.max(0, totalSteps - step) * milliseconds) / steps : 0,
      residentBytes: residentBytes(),
    };
  };
}
