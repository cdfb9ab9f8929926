import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { atomicWrite } from "@onnx-peft/core";
import { machineName } from "../machine.ts";
import { LAYERS } from "./base-shape.ts";
import { asUsual, type Entry, settingOf } from "./entry.ts";
import type { StepCost } from "./measure-cost.ts";

const COMMAND = "npm run bench:methods";

/** A step beside one of LoRA. */
export interface CostAt extends StepCost {
  /** stepMs over referenceMs. */
  readonly stepRatio: number;
}

/** What an entry costs while it trains. */
export interface EntryCost {
  /** Changes with the entry and the measurement. */
  readonly fingerprint: string;
  /** At BERT-base's shape, with the usual setting. */
  readonly base: CostAt;
  /** On the backbone of the comparison, with its setting there. */
  readonly small: CostAt;
}

export type Costs = Readonly<Record<string, EntryCost>>;

/** What method-costs.json holds. */
export interface CostFile {
  readonly command: string;
  readonly machine: string;
  readonly costs: Costs;
}

/** What `bench:methods` has measured; no costs before it was run. */
export async function readCosts(folder: string): Promise<CostFile> {
  try {
    return JSON.parse(await readFile(join(folder, "method-costs.json"), "utf8")) as CostFile;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return { command: COMMAND, machine: machineName(1), costs: {} };
  }
}

/** Above this a step counts as slow. */
export const SLOW = 1.5;

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;

/** The costs as Markdown, cheapest first. */
export function costPage(entries: readonly Entry[], { machine, costs }: CostFile): string {
  const known = entries.flatMap((entry) => {
    const cost = costs[entry.name];
    return cost ? [{ entry, cost }] : [];
  });
  const slow = known.filter(({ cost }) => cost.base.stepRatio > SLOW).map(({ entry }) => entry.name);
  const rows = [...known]
    .sort((a, b) => a.cost.base.stepRatio - b.cost.base.stepRatio)
    .map(({ entry, cost: { base, small } }) =>
      [
        ...[entry.name, settingOf(asUsual(entry)), base.stepRatio.toFixed(2), base.stepMs.toFixed(0)],
        ...[megabytes(base.peakBytes), small.stepRatio.toFixed(2)],
      ].join(" | "),
    );
  return [
    "# What methods cost while they train",
    "",
    `CPU time of a training step on one thread beside one of LoRA r 8, measured in alternation; ${LAYERS} layers of BERT-base's shape, random`,
    "weights, four sequences of 128 tokens, adapters at query and value where the method leaves the choice, each at its usual setting. With more",
    "layers the ratio stays and the memory grows by the weights. Right: the ratio on the backbone of [the comparison](methods.md), with its setting",
    "there.",
    "",
    "| method | usual setting | step / LoRA | step, ms | peak memory | step / LoRA, backbone |",
    "| --- | --- | --: | --: | --: | --: |",
    ...rows.map((row) => `| ${row} |`),
    "",
    slow.length === 0
      ? `No method takes more than ${SLOW} times LoRA's step.`
      : `Above ${SLOW} times LoRA's step: ${slow.join(", ")}.`,
    "",
    `From \`npm run bench:methods\`, ${machine}: [method-costs.json](method-costs.json).`,
    "",
  ].join("\n");
}

/** Writes method-costs.json and method-costs.md. */
export async function writeCosts(folder: string, entries: readonly Entry[], costs: Costs): Promise<void> {
  const file: CostFile = { command: COMMAND, machine: machineName(1), costs };
  await atomicWrite(join(folder, "method-costs.json"), `${JSON.stringify(file, null, 2)}\n`);
  await atomicWrite(join(folder, "method-costs.md"), costPage(entries, file));
}
