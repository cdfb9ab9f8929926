import { PeftError } from "../errors.ts";
import type { Device } from "../runtime/device.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import { createEngineProcess } from "./engine-process.ts";
import { type FeedBatches, readBatches } from "./feed-batches.ts";
import type { EvaluationProgram } from "./program.ts";

/** How a program is run that needs no training: the same choices as a training run has. */
export interface ForwardRunOptions {
  /** Values of the program's parameters. */
  readonly parameters?: Readonly<Record<string, RuntimeTensor>>;
  /** "process" (default) keeps the caller's event loop and memory free; "inline" runs in the calling thread. */
  readonly isolation?: "process" | "inline";
  readonly threads?: number;
  /** Default "cpu". */
  readonly device?: Device;
  /** Stops between two batches with the signal's reason as the error. */
  readonly signal?: AbortSignal;
  /** Called after every batch. */
  readonly onBatch?: () => void;
}

const runKeys: ReadonlySet<string> = new Set<keyof ForwardRunOptions>([
  ...(["parameters", "isolation", "threads", "device", "signal", "onBatch"] as const),
]);

/** The choices of a run, and all other options beside them. */
export function splitForwardOptions<O extends ForwardRunOptions>(
  options: O,
): { readonly run: ForwardRunOptions; readonly rest: Omit<O, keyof ForwardRunOptions> } {
  const pick = (isWanted: (key: string) => boolean) =>
    Object.fromEntries(Object.entries(options).filter(([key]) => isWanted(key)));
  return {
    run: pick((key) => runKeys.has(key)),
    rest: pick((key) => !runKeys.has(key)) as Omit<O, keyof ForwardRunOptions>,
  };
}

/** A program that is open. */
export interface ForwardRun extends AsyncDisposable {
  /** Feeds that the program does not take are left out. */
  run(feeds: Feeds): Promise<Outputs>;
}

/** Opens a program for some runs; the process with the weights ends when it is disposed of. */
export async function openForward(
  program: EvaluationProgram,
  { parameters = {}, isolation = "process", threads, device = "cpu", signal, onBatch }: ForwardRunOptions = {},
): Promise<ForwardRun> {
  signal?.throwIfAborted();
  const setup = { evaluation: program, parameters, seed: 0, device, ...(threads === undefined ? {} : { threads }) };
  const names = new Set(program.inputs.map((v) => v.name));
  const engine = isolation === "inline" ? await createEngine(onnxruntimeNode, setup) : await createEngineProcess(setup);
  return {
    async run(batch) {
      signal?.throwIfAborted();
      const outputs = await engine.evaluate(
        Object.fromEntries(Object.entries(batch).filter(([name]) => names.has(name))),
      );
      onBatch?.();
      return outputs;
    },
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

/**
 * Runs a program on some batches, one after the other, and hands each result to `onOutputs`.
 * @throws PeftError NO_DATA without batches
 */
export async function runForward(
  program: EvaluationProgram,
  batches: FeedBatches,
  onOutputs: (outputs: Outputs) => void,
  options: ForwardRunOptions = {},
): Promise<void> {
  await using forward = await openForward(program, options);
  let count = 0;
  for await (const batch of readBatches(batches)) {
    onOutputs(await forward.run(batch));
    count++;
  }
  if (count === 0) throw noBatches();
}

export const noBatches = (): PeftError =>
  new PeftError("NO_DATA", "expected at least one batch to calibrate on, received none.");
