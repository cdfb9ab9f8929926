import { createLog } from "../../../testing/check-log.ts";
import type { GroundName } from "../ground-names.ts";

/** One capability of one configuration of a method on one ground, as it was found. */
export interface BehaviourCheck {
  readonly method: string;
  readonly variant: string;
  readonly ground: GroundName;
  readonly capability: string;
  /** "yes" or how it holds; of what is refused, the error's code. */
  readonly result: string;
}

export const behaviourLog = createLog<BehaviourCheck>();
