import { createRandom } from "@onnx-peft/core";
import { denoisingLoss } from "./denoising-loss.ts";
import { captionOf, drawPlacement, renderPicture } from "./picture.ts";
import type { SubjectTask } from "./subject-task.ts";

/** What the pre-trained denoiser makes of emoji that it has not seen: with their captions, and with those of other ones. */
export async function pretrainingFigures({ model, vocabulary, heldOut }: SubjectTask): Promise<Record<string, number>> {
  const random = createRandom("held-out pictures");
  const pictures = heldOut.slice(0, 32).map(({ name, rgba }) => {
    const placement = drawPlacement(random);
    return { pixels: renderPicture(rgba, placement), caption: captionOf(name, placement) };
  });
  const captions = pictures.map(({ caption }) => caption);
  const exchanged = pictures.map(({ pixels }, i) => ({ pixels, caption: captions.at(i - 1) as string }));
  return {
    "pre-trained denoiser, loss on unseen emoji": await denoisingLoss(model, vocabulary, pictures),
    "pre-trained denoiser, loss with captions of other ones": await denoisingLoss(model, vocabulary, exchanged),
  };
}
