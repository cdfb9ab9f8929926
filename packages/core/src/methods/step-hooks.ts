import type { SiteShape } from "../adapters/site.ts";
import type { ByRole } from "./method.ts";

/** One adapted module as hooks and penalties see it. */
export interface HookSite<C> {
  readonly site: SiteShape;
  /** The options that hold for it. */
  readonly config: C;
  /** Tensor names by role, the shared ones included. */
  readonly names: ByRole<string>;
  /** `peft_type` of the part that adapts it, in a composition. */
  readonly method?: string;
}

/** What a method's hooks are made from. Everything but `values` is plain data. */
export interface HookSetup<C> {
  readonly config: C;
  readonly sites: readonly HookSite<C>[];
  /** The adapter's tensors as the engine feeds them; those that grow are other arrays afterwards. Hooks may write into them. */
  readonly values: ReadonlyMap<string, Float32Array>;
  readonly totalSteps: number;
  readonly seed: number | string;
}

/** A tensor that takes another size, its free axes longer than before. */
export interface Growth {
  readonly name: string;
  readonly dims: readonly number[];
  /** All values. Entries that were there before keep their places at the low end of every axis. */
  readonly data: Float32Array;
  /** "constant": the new entries learn at the initial learning rate, whatever the schedule. Default "schedule". */
  readonly learningRate?: "schedule" | "constant";
}

/** Work of a method between the runs of a training, done where the optimiser is. */
export interface StepHooks {
  /** Before the batch `step` (from 0): draws a rank, sets a mask. Random numbers must come from (seed, step): resume is exact. */
  beforeStep?(step: number): void;
  /** Before clipping and update: gradients of the batch's mean loss, which may be changed. */
  beforeUpdate?(step: number, gradients: ReadonlyMap<string, Float32Array>): void;
  /**
   * What of the trained tensors the optimiser leaves as it is at this step, its state included, by name: entries marked 1, or the
   * whole tensor, for which the step does not count.
   */
  held?(): ReadonlyMap<string, Uint8Array | "all">;
  /** After the optimiser's update, with the gradients it used. */
  onStep?(step: number, gradients: ReadonlyMap<string, Float32Array>): void;
  /**
   * After `onStep`: tensors that grow. The engine takes the new arrays in the place of the old ones, in `values` too. Old entries keep
   * their state in the optimiser, new ones begin without, as if their own training began with the next step.
   */
  grow?(step: number): readonly Growth[];
  /** Everything that is not in the adapter's tensors; saved in checkpoints. */
  state?(): Readonly<Record<string, Float32Array>>;
  /** Takes up a saved state. */
  restore?(state: Readonly<Record<string, Float32Array>>): void;
}
