import { resolve } from "node:path";
import { pipeline } from "@huggingface/transformers";

/** The candidate nearest to each query, by a merged model folder in transformers.js, as any program that uses it would. */
export async function nearestWithTransformersJs(
  folder: string,
  queries: readonly string[],
  candidates: readonly string[],
): Promise<string[]> {
  const extract = await pipeline("feature-extraction", resolve(folder), { dtype: "fp32", local_files_only: true });
  const embed = async (texts: readonly string[]): Promise<number[][]> =>
    (await extract([...texts], { pooling: "mean", normalize: true })).tolist();
  const vectors = await embed(candidates);
  const found = (await embed(queries)).map((query) => {
    const scores = vectors.map((vector) => vector.reduce((sum, v, k) => sum + v * (query[k] ?? 0), 0));
    return candidates[scores.indexOf(Math.max(...scores))] ?? "";
  });
  await extract.dispose();
  return found;
}
