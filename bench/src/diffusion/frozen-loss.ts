import type { ClaimContext } from "../claim.ts";
import { mean } from "../mean.ts";
import { denoisingLoss } from "./denoising-loss.ts";
import type { SubjectTask } from "./subject-task.ts";

/** Loss of the denoiser without an adapter: the mean over subjects. */
export async function frozenLoss(
  context: ClaimContext,
  task: () => Promise<SubjectTask>,
  seeds: readonly number[],
): Promise<number> {
  const losses: number[] = [];
  for (const seed of seeds)
    losses.push(
      await context.remember(`frozen, subject ${seed}`, async () => {
        const { model, vocabulary, subject } = await task();
        return denoisingLoss(model, vocabulary, subject(seed).heldOut);
      }),
    );
  return mean(losses);
}
