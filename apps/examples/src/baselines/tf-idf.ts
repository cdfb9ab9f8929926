/** Rows with few non-zero values (compressed sparse rows): those of row i stand at rowStarts[i] .. rowStarts[i+1]. */
export interface SparseRows {
  readonly rows: number;
  readonly columns: number;
  readonly rowStarts: Int32Array;
  readonly columnIds: Int32Array;
  readonly values: Float64Array;
}

export interface TfIdf {
  /** Terms in the order of their columns. */
  readonly terms: readonly string[];
  /** Rows [texts, terms] of unit length; terms that were not in the training texts are ignored. */
  transform(texts: readonly string[]): SparseRows;
}

export interface TfIdfOptions {
  /** Longest run of neighbouring words that is a term. Default 1. */
  ngrams?: 1 | 2;
}

/** Words (letters, digits and underscores, lower case) and, for 2, pairs of neighbours, with their number of occurrences. */
function termCounts(text: string, ngrams: 1 | 2): Map<string, number> {
  const words = text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  const pairs = ngrams === 2 ? words.slice(1).map((word, i) => `${words[i]} ${word}`) : [];
  const counts = new Map<string, number>();
  for (const term of [...words, ...pairs]) counts.set(term, (counts.get(term) ?? 0) + 1);
  return counts;
}

/**
 * Learns terms and their weights. The value of a term in a text is (1 + ln tf) · (ln((1 + n) / (1 + df)) + 1), rows scaled to
 * unit length: scikit-learn's `TfidfVectorizer(sublinear_tf=True)` with one-letter words kept.
 *
 * @param texts training texts.
 */
export function fitTfIdf(texts: readonly string[], { ngrams = 1 }: TfIdfOptions = {}): TfIdf {
  const documentCounts = new Map<string, number>();
  for (const text of texts) {
    for (const term of termCounts(text, ngrams).keys()) documentCounts.set(term, (documentCounts.get(term) ?? 0) + 1);
  }
  const terms = [...documentCounts.keys()].sort();
  const columnOf = new Map(terms.map((term, column) => [term, column]));
  const idf = Float64Array.from(
    terms,
    (term) => Math.log((1 + texts.length) / (1 + (documentCounts.get(term) ?? 0))) + 1,
  );

  const transform = (inputs: readonly string[]): SparseRows => {
    const rowStarts = new Int32Array(inputs.length + 1);
    const columnIds: number[] = [];
    const values: number[] = [];
    inputs.forEach((text, row) => {
      const start = values.length;
      let squares = 0;
      for (const [term, count] of termCounts(text, ngrams)) {
        const column = columnOf.get(term);
        if (column === undefined) continue;
        const value = (1 + Math.log(count)) * (idf[column] as number);
        columnIds.push(column);
        values.push(value);
        squares += value * value;
      }
      const norm = Math.sqrt(squares) || 1;
      for (let i = start; i < values.length; i++) values[i] = (values[i] as number) / norm;
      rowStarts[row + 1] = values.length;
    });
    return {
      rows: inputs.length,
      columns: terms.length,
      rowStarts,
      columnIds: Int32Array.from(columnIds),
      values: Float64Array.from(values),
    };
  };
  return { terms, transform };
}
