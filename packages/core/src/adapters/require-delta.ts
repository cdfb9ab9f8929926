import { PeftError } from "../errors.ts";
import { whyNoDelta } from "../methods/method.ts";
import { methodOf } from "../methods/registry.ts";
import type { Adapter } from "./adapter.ts";

/** @throws PeftError NO_DELTA when the adapter's change cannot be written as weights */
export function requireDelta({ type, config }: Adapter, what: "merged" | "converted"): void {
  const reason = whyNoDelta(methodOf(type), config);
  if (reason === null) return;
  throw new PeftError("NO_DELTA", `${type} cannot be ${what}: ${reason}.`, {
    hint: "makeSwappable gives a model that takes the adapter as inputs.",
  });
}
