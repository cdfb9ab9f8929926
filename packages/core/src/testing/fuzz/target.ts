import type { Mutation } from "./mutate-bytes.ts";

/** A parser under test, with what is behind it. */
export interface FuzzTarget {
  readonly name: string;
  /** Valid inputs to damage; made by code, so that they are the same everywhere. */
  readonly seeds: readonly Uint8Array[];
  /** Damages that know the format; those of plain bytes are always added. */
  readonly mutations: readonly Mutation[];
  /** Codes that a refusal may have. */
  readonly codes: ReadonlySet<string>;
  /**
   * Parses an input and, when it is accepted, checks what the parser promises: sizes within the file, a second writing and
   * reading gives the same. A `PeftError` is a refusal, any other error a finding.
   */
  readonly run: (input: Uint8Array) => void | Promise<void>;
}

/** Thrown by a target when an accepted input breaks a promise. */
export function promise(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`broken promise: ${what}`);
}
