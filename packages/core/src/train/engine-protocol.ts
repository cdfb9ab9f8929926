import type { Feeds, Outputs } from "../runtime/runtime.ts";
import type { EngineSetup, StepRequest, StepResult } from "./engine.ts";

/** What a child opens. Tensors lie in files of the exchange folder, which the child removes when its parent is gone. */
export interface OpenRequest {
  readonly setup: Omit<EngineSetup, "parameters">;
  readonly parametersPath: string;
  readonly exchangeFolder: string;
}

/** Calls that a child process answers, with argument and result. */
export interface EngineCalls {
  open: { argument: OpenRequest; result: null };
  step: { argument: StepRequest; result: StepResult };
  evaluate: { argument: Feeds; result: Outputs };
  /** Argument: names of parameters, or null for all. */
  keepBest: { argument: readonly string[] | null; result: null };
  /** Writes the best parameters to a file at the given path. */
  bestParameters: { argument: string; result: null };
  /** Argument: the folder. */
  save: { argument: string; result: null };
  restore: { argument: string; result: null };
  close: { argument: null; result: null };
}

export type EngineCallName = keyof EngineCalls;

/** One call, told apart by its name. */
export type EngineRequest = {
  [K in EngineCallName]: { readonly id: number; readonly call: K; readonly argument: EngineCalls[K]["argument"] };
}[EngineCallName];

export interface SerializedError {
  readonly code: string | null;
  readonly message: string;
  readonly details: Record<string, unknown>;
}

export type EngineResponse =
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly ok: false; readonly error: SerializedError };
