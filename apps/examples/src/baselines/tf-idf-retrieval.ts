import { targetRanks } from "@onnx-peft/core";
import { fitTfIdf, type SparseRows } from "./tf-idf.ts";

interface Pair {
  readonly text: string;
  readonly textPair?: string;
}

/** One row of a sparse matrix times every row of another: cosines, as rows have unit length. */
function cosines(query: number, queries: SparseRows, candidates: SparseRows): Float64Array {
  const dense = new Float64Array(queries.columns);
  for (let i = queries.rowStarts[query] as number; i < (queries.rowStarts[query + 1] as number); i++)
    dense[queries.columnIds[i] as number] = queries.values[i] as number;
  return Float64Array.from({ length: candidates.rows }, (_, row) => {
    let sum = 0;
    for (let i = candidates.rowStarts[row] as number; i < (candidates.rowStarts[row + 1] as number); i++)
      sum += (candidates.values[i] as number) * (dense[candidates.columnIds[i] as number] as number);
    return sum;
  });
}

/**
 * Finds the partner of every text among the partners of all by cosine of TF-IDF: what a sentence encoder has to beat. Term
 * weights come from the training texts. A text without a known term ties with all candidates and counts as not found.
 * @returns the metrics of the task sentence embedding.
 */
export function tfIdfRetrieval(train: readonly Pair[], test: readonly Pair[]) {
  const partnerOf = (pair: Pair): string => pair.textPair ?? "";
  const tfIdf = fitTfIdf([...train.map((pair) => pair.text), ...train.map(partnerOf)]);
  const queries = tfIdf.transform(test.map((pair) => pair.text));
  const candidates = tfIdf.transform(test.map(partnerOf));
  const ranks = test.map((_, i) => targetRanks({ scores: cosines(i, queries, candidates), targets: [i] })[0] ?? 0);
  const share = (k: number): number => ranks.filter((rank) => rank <= k).length / ranks.length;
  return {
    recallAt1: share(1),
    recallAt10: share(10),
    meanReciprocalRank: ranks.reduce((sum, rank) => sum + 1 / rank, 0) / ranks.length,
  };
}
