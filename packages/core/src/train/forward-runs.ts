import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { createEngine } from "./engine.ts";
import { createEngineProcess } from "./engine-process.ts";
import type { EvaluationProgram } from "./program.ts";

/** How a program is run that needs no training: the same choices as a training run has. */
export interface ForwardRunOptions {
  /** Values of the program's parameters. */
  readonly parameters?: Readonly<Record<string, RuntimeTensor>>;
  /** "process" (default) keeps the caller's event loop and memory free; "inline" runs in the calling thread. */
  readonly isolation?: "process" | "inline";
  readonly threads?: number;
}

/**
 * Runs a program on some batches, one after the other, and hands each result to `onOutputs`. Feeds that the program does not
 * take are left out. The process with the weights ends with the last batch.
 */
export async function runForward(
  program: EvaluationProgram,
  batches: readonly Feeds[],
  onOutputs: (outputs: Outputs) => void,
  { parameters = {}, isolation = "process", threads }: ForwardRunOptions = {},
): Promise<void> {
  const setup = { evaluation: program, parameters, seed: 0, ...(threads === undefined ? {} : { threads }) };
  const names = new Set(program.inputs.map((v) => v.name));
  const engine = isolation === "inline" ? await createEngine(onnxruntimeNode, setup) : await createEngineProcess(setup);
  try {
    for (const batch of batches) {
      const feeds = Object.fromEntries(Object.entries(batch).filter(([name]) => names.has(name)));
      onOutputs(await engine.evaluate(feeds));
    }
  } finally {
    await engine.close();
  }
}
