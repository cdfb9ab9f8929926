import { type Claim, glossSizes } from "../claim.ts";
import { overSeeds, type Setting, type SettingFigures } from "../methods/held-out.ts";
import { mean } from "../planted-layer.ts";

const SEEDS = [1, 2, 3];
/** As in the paper's runs on text: the second linear layer of the feed-forward part. */
const TARGETS = {
  targetModules: ["layer.0.output.dense", "layer.1.output.dense", "layer.2.output.dense", "layer.3.output.dense"],
};
const hydra = (config: object): Setting => ({
  type: "HYDRA",
  config: { bias: false, init: "kaiming", scale: 2, ...config, ...TARGETS },
  epochs: 3,
});
/** 1024 to 256: a parallel rank costs 1,280 values a module, a sequential one 512. */
const systems: Readonly<Record<string, Setting>> = {
  "both branches": hydra({ parallelRank: 4, sequentialRank: 8 }),
  "parallel branch": hydra({ parallelRank: 4, branches: "parallel" }),
  "sequential branch": hydra({ sequentialRank: 8, branches: "sequential" }),
  "LoRA r 7": { type: "LORA", config: { r: 7, alpha: 14, ...TARGETS }, epochs: 3 },
};

export const claim: Claim = {
  id: "hydra-branches",
  paper: "2309.06922",
  statement:
    "A branch on a layer's input and one on its output together do better than either alone, and than LoRA of as many parameters.",
  setup:
    "WordNet definitions, 1,000 to train on, three epochs, three seeds, the output projections of the feed-forward layers; parallel rank 4 and sequential rank 8 without biases, as in the paper's runs on text; factor 2 for all, each at the best of three learning rates by the validation loss of the first seed.",
  async run(context) {
    const found: Record<string, SettingFigures> = {};
    for (const [name, setting] of Object.entries(systems))
      found[name] = await overSeeds(context, setting, { rates: [1e-3, 3e-3, 1e-2], seeds: SEEDS, sizes: glossSizes });
    const of = (name: string): number => mean(found[name]?.accuracies ?? []);
    const spread = found["both branches"]?.accuracies.map((a, i) => a - (found["LoRA r 7"]?.accuracies[i] ?? 0)) ?? [];
    return {
      figures: {
        ...Object.fromEntries(Object.keys(systems).map((name) => [`${name}, accuracy`, of(name)])),
        ...Object.fromEntries(
          Object.keys(systems).map((name) => [`${name}, trained values`, found[name]?.parameters ?? 0]),
        ),
        "both branches above LoRA, least of the seeds": Math.min(...spread),
        "both branches above LoRA, most of the seeds": Math.max(...spread),
      },
      holds:
        of("both branches") >= Math.max(of("parallel branch"), of("sequential branch")) - 0.005 &&
        of("both branches") >= of("LoRA r 7") + 0.005,
      note: "Asked for: at least the better branch less half a point, and half a point above LoRA. One task; the runs on images belong to the package for vision.",
    };
  },
};
