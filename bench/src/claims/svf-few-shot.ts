import type { Claim, ClaimContext } from "../claim.ts";
import type { GlossTask } from "../methods/gloss-task.ts";
import { accuracyOf, logitsOf } from "../methods/judge-adapter.ts";
import { tuneGloss } from "../methods/train-method.ts";
import { mean } from "../planted-layer.ts";

const SIZES = { train: 1000, validation: 100, test: 600 };
const SEEDS = [1, 2, 3];
const SHOTS = 4;
const TARGETS = { targetModules: ["query", "key", "value", "dense"] };
const systems = {
  "singular values": { type: "SVF", config: { ...TARGETS }, learningRate: 2e-2 },
  "LoRA r 4": { type: "LORA", config: { r: 4, alpha: 8, ...TARGETS }, learningRate: 3e-3 },
} as const;

interface Shift {
  readonly trained: readonly [before: number, after: number];
  readonly other: readonly [before: number, after: number];
}

/** The first half of the classes with a few texts each; the head stands still, as class vectors of a two-tower model do. */
async function fewShot(context: ClaimContext, name: keyof typeof systems, seed: number): Promise<Shift> {
  return context.remember(`${name} ${JSON.stringify(systems[name])}, seed ${seed}`, async () => {
    const gloss = await context.gloss(seed, SIZES);
    const labels = [...new Set(gloss.test.map(({ label }) => label))].sort((a, b) => a - b);
    const half = labels.slice(0, Math.ceil(labels.length / 2));
    const others = labels.slice(half.length);
    const shots = half.flatMap((label) => gloss.train.filter((text) => text.label === label).slice(0, SHOTS));
    const few: GlossTask = { ...gloss, train: shots };
    const run = { ...systems[name], seed, epochs: 8, batchSize: 16, headLearningRate: 0 };
    await using tuned = await tuneGloss(few, run);
    const texts = (own: readonly number[]) => gloss.test.filter(({ label }) => own.includes(label));
    const judge = async (own: readonly number[]): Promise<[number, number]> => {
      const chosen = texts(own);
      const [before, after] = [await logitsOf(gloss, null, chosen), await logitsOf(gloss, tuned.adapter, chosen)];
      return [accuracyOf(before, chosen, own), accuracyOf(after, chosen, own)];
    };
    return { trained: await judge(half), other: await judge(others) };
  });
}

export const claim: Claim = {
  id: "svf-few-shot",
  paper: "2509.03740",
  statement:
    "Trained on a few examples, singular values adapt a model to their classes and disturb the others less than LoRA does.",
  setup:
    "WordNet definitions, the first half of the categories with four texts each, eight epochs, three seeds, all linear layers, the classifier fixed; accuracy among the trained and among the other categories before and after, beside LoRA r 4 at the same steps.",
  async run(context) {
    const figures: Record<string, number> = {};
    const gains: Record<string, { gain: number; fall: number }> = {};
    for (const name of Object.keys(systems) as (keyof typeof systems)[]) {
      const shifts: Shift[] = [];
      for (const seed of SEEDS) shifts.push(await fewShot(context, name, seed));
      const over = (of: (s: Shift) => number): number => mean(shifts.map(of));
      figures["trained categories, before"] = over((s) => s.trained[0]);
      figures[`trained categories, ${name}`] = over((s) => s.trained[1]);
      figures["other categories, before"] = over((s) => s.other[0]);
      figures[`other categories, ${name}`] = over((s) => s.other[1]);
      gains[name] = { gain: over((s) => s.trained[1] - s.trained[0]), fall: over((s) => s.other[0] - s.other[1]) };
    }
    const [ours, lora] = [gains["singular values"], gains["LoRA r 4"]];
    return {
      figures,
      holds: (ours?.gain ?? 0) >= 0.05 && (ours?.fall ?? 1) < (lora?.fall ?? 0),
      note: "Asked for: five points more among the trained categories, and a smaller fall among the others than LoRA's. The paper's runs on images and captions belong to the packages for them.",
    };
  },
};
