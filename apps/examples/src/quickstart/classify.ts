import { basename, dirname, resolve } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

export const sentences = [
  "a small domesticated animal with soft fur that catches mice",
  "an instrument for measuring the pressure of the air",
  "the feeling of great happiness when a friend comes home",
] as const;

/** Classifies texts with a merged model folder through transformers.js, as any program that uses it would. */
export async function classifyWithTransformersJs(
  folder: string,
  texts: readonly string[],
): Promise<{ text: string; label: string; score: number }[]> {
  env.allowRemoteModels = false;
  env.localModelPath = dirname(resolve(folder));
  const classify = await pipeline("text-classification", basename(resolve(folder)), { dtype: "fp32" });
  const results: { text: string; label: string; score: number }[] = [];
  for (const text of texts) {
    const [best] = (await classify(text)) as { label: string; score: number }[];
    results.push({ text, label: best?.label ?? "", score: best?.score ?? 0 });
  }
  await classify.dispose();
  return results;
}
