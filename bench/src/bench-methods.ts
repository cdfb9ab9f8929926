/**
 * Time and memory of a training step of every method beside LoRA:
 *   npm run bench:methods -- [--only name]... [--steps 7] [--again]
 * Entries that were measured as they stand are not measured again. Writes method-costs.json and method-costs.md in bench/results.
 */
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { baseShape, LAYERS } from "./methods/base-shape.ts";
import { fullSetting } from "./methods/compare-methods.ts";
import { type CostAt, type EntryCost, readCosts, writeCosts } from "./methods/cost-table.ts";
import { compared as all } from "./methods/entries.ts";
import { asUsual, configOf, type Entry } from "./methods/entry.ts";
import { openGlossTask } from "./methods/gloss-task.ts";
import { measureCost, type StepShape } from "./methods/measure-cost.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    steps: { type: "string", default: "7" },
    again: { type: "boolean", default: false },
  },
});
const results = fileURLToPath(new URL("../results", import.meta.url));
const steps = Number(values.steps);
const unknown = values.only.filter((name) => !all.some((entry) => entry.name === name));
if (unknown.length > 0) throw new RangeError(`No entry is called ${unknown.join(", ")}.`);
const chosen = values.only.length > 0 ? all.filter(({ name }) => values.only.includes(name)) : all;

/** What takes the place of a start that is made from data: one whose step is the same. */
const sameStep: Readonly<Record<string, unknown>> = { eva: true, lora_ga: "pissa", corda: "pissa" };

function measured(entry: Entry) {
  const { initLoraWeights, ...config } = configOf(entry);
  const start = sameStep[String(initLoraWeights)] ?? initLoraWeights;
  return { type: entry.type, config: start === undefined ? config : { ...config, initLoraWeights: start } };
}
const reference = measured({ name: "LoRA", type: "LORA", config: { r: 8, alpha: 16 } });

/** The entry for a model of the shape's width, where it must be told. */
function fitted({ model }: StepShape, entry: Entry) {
  const { type, config } = measured(entry);
  return {
    type,
    config: "hiddenSize" in config ? { ...config, hiddenSize: Number(model.config["hidden_size"]) } : config,
  };
}

async function costAt(shape: StepShape, entry: Entry): Promise<CostAt> {
  const cost = await measureCost(shape, fitted(shape, entry), reference, steps);
  return { ...cost, stepRatio: cost.stepMs / cost.referenceMs };
}

const fingerprintOf = (entry: Entry): string =>
  createHash("sha256")
    .update(JSON.stringify([measured(entry), measured(asUsual(entry)), LAYERS]))
    .digest("hex")
    .slice(0, 10);

const folder = await mkdtemp(join(tmpdir(), "onnx-peft-costs-"));
try {
  const base = await baseShape(folder);
  const gloss = await openGlossTask(fullSetting.sizes, 1);
  const small: StepShape = {
    ...{ model: gloss.model, labels: 25, vocabulary: Number(gloss.model.config["vocab_size"]) },
    ...{ batch: 16, tokens: 16 },
  };
  let { costs } = await readCosts(results);
  for (const [i, entry] of chosen.entries()) {
    const fingerprint = fingerprintOf(entry);
    if (!values.again && costs[entry.name]?.fingerprint === fingerprint) continue;
    const started = performance.now();
    let cost: EntryCost;
    try {
      cost = { fingerprint, base: await costAt(base, asUsual(entry)), small: await costAt(small, entry) };
    } catch (error) {
      process.exitCode = 1;
      console.error(`${entry.name} failed:`, error);
      continue;
    }
    costs = Object.fromEntries(
      all.flatMap(({ name }) => {
        const known = name === entry.name ? cost : costs[name];
        return known ? [[name, known]] : [];
      }),
    );
    await writeCosts(results, all, costs);
    const left = ((performance.now() - started) * (chosen.length - i - 1)) / 60_000;
    console.log(
      `${entry.name}: ${cost.base.stepRatio.toFixed(2)}, on the backbone ${cost.small.stepRatio.toFixed(2)} (${Math.ceil(left)} min left)`,
    );
  }
  await writeCosts(results, all, costs);
} finally {
  await rm(folder, { recursive: true });
}
