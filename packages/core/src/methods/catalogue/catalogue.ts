import type { MethodEntry } from "./entry.ts";
import { lowRankEntries } from "./low-rank.ts";
import { moduleEntries } from "./modules.ts";
import { weightEntries } from "./weights.ts";

/** Notes on every registered method by `peft_type`: docs/methods.md is made from them. */
export const methodCatalogue: Readonly<Record<string, MethodEntry>> = {
  ...lowRankEntries,
  ...weightEntries,
  ...moduleEntries,
};
