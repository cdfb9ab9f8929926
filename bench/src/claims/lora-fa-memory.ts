import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lora, type Method } from "@onnx-peft/core";
import { atBestRate } from "../best-rate.ts";
import type { Claim } from "../claim.ts";
import { measureMemory } from "../measure-memory.ts";
import type { MemoryShape } from "../memory-shapes.ts";

const SEEDS = [1, 2, 3];
const shape: MemoryShape = {
  ...{
    title: "MiniLM shape",
    family: "bert",
    hidden: 384,
    layers: 6,
    heads: 12,
    intermediate: 1536,
    vocabulary: 30522,
  },
  ...{ batch: 16, tokens: 128, microBatchTokens: Number.MAX_SAFE_INTEGER, targetModules: "all-linear" },
};

export const claim: Claim = {
  id: "lora-fa-memory",
  paper: "2308.03303",
  statement:
    "With A frozen the inputs of adapted modules need not be kept: training takes less memory than LoRA and is on a par with it.",
  setup:
    "Peak of a process that trains a MiniLM shape with random weights, 16 x 128 tokens in one run, LoRA r 8 at all linear layers; accuracy on WordNet definitions, 1,000 to train on, two epochs, three seeds, all linear layers, the same number of trained values, each at the best of two learning rates.",
  async run(context) {
    const peak = (freezeA: boolean): Promise<{ measured: number; estimated: number }> =>
      context.remember(`peak of ${JSON.stringify(shape)}, freezeA ${freezeA}`, async () => {
        const folder = await mkdtemp(join(tmpdir(), "onnx-peft-claim-"));
        try {
          const adapter = { method: lora as unknown as Method, config: { r: 8, freezeA } };
          const { measuredBytes, estimate } = await measureMemory(folder, shape, adapter);
          return { measured: measuredBytes, estimated: estimate.totalBytes };
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      });
    const [all, frozen] = [await peak(false), await peak(true)];
    const targetModules = "all-linear";
    const [whole, half] = [
      await atBestRate(
        context,
        { type: "LORA", config: { r: 8, alpha: 16, targetModules }, rates: [1e-3, 3e-3] },
        { epochs: 2, seeds: SEEDS },
      ),
      await atBestRate(
        context,
        { type: "LORA", config: { r: 16, alpha: 32, freezeA: true, targetModules }, rates: [1e-3, 3e-3] },
        { epochs: 2, seeds: SEEDS },
      ),
    ];
    return {
      figures: {
        "LoRA, peak MB": Math.round(all.measured / 1e6),
        "LoRA-FA, peak MB": Math.round(frozen.measured / 1e6),
        "LoRA, estimated MB": Math.round(all.estimated / 1e6),
        "LoRA-FA, estimated MB": Math.round(frozen.estimated / 1e6),
        "LoRA, test accuracy": whole.testAccuracy,
        "LoRA-FA, test accuracy": half.testAccuracy,
      },
      holds: frozen.measured < all.measured - 20e6 && half.testAccuracy >= whole.testAccuracy - 0.01,
      note: "Less memory: 20 MB at least. On a par: not more than one point below. The products' inputs that other gradients need (of norms, of the activation) are kept either way.",
    };
  },
};
