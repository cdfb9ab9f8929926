import type { AdapterConfigInput } from "../../../adapters/select.ts";
import type { GroundName } from "../ground-names.ts";

/** One way in which a method is tried on the tiny model; a method may have several. */
export interface TriedConfig {
  readonly type: string;
  /** What is special about it. */
  readonly variant?: string;
  readonly config: AdapterConfigInput;
  /** How far tensors are moved from their start at random, where 0.3 is too much or too little. */
  readonly noise?: number;
  /** Part of the forward is taken without gradient: A and B are checked against that definition elsewhere. */
  readonly stopsGradients?: true;
  /** Options that take other values on other grounds than the transformer block, whose modules have other names and sizes. */
  readonly elsewhere?: Readonly<Partial<Record<GroundName, AdapterConfigInput>>>;
  /** Grounds on which this configuration is refused although the method adapts their modules, and how. */
  readonly refusedOn?: Readonly<Partial<Record<GroundName, { readonly code: string; readonly reason: string }>>>;
}

/** Options as one of many methods takes them. */
export const config = (fields: Readonly<Record<string, unknown>>): AdapterConfigInput => fields as AdapterConfigInput;
/** Targets on the transformer block. */
export const mixed = { targetModules: ["query", "value", "up", "output.dense"] };
