import type { Feeds, Outputs } from "../runtime/runtime.ts";
import type { EngineSetup, EngineState, StepRequest, StepResult } from "./engine.ts";

/** Calls that a child process answers, with argument and result. */
export interface EngineCalls {
  open: { argument: EngineSetup; result: null };
  step: { argument: StepRequest; result: StepResult };
  evaluate: { argument: Feeds; result: Outputs };
  state: { argument: null; result: EngineState };
  restore: { argument: EngineState; result: null };
  close: { argument: null; result: null };
}

export type EngineCallName = keyof EngineCalls;

export interface EngineRequest<K extends EngineCallName = EngineCallName> {
  readonly id: number;
  readonly call: K;
  readonly argument: EngineCalls[K]["argument"];
}

export interface SerializedError {
  readonly code: string | null;
  readonly message: string;
  readonly details: Record<string, unknown>;
}

export type EngineResponse =
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly ok: false; readonly error: SerializedError };
