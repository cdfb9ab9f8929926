import type { TokenRow } from "@onnx-peft/text";

const LONGEST_SUFFIX = 4;

/** The most frequent value of every key. */
function mostFrequent(pairs: Iterable<readonly [key: string, value: string]>): Map<string, string> {
  const counts = new Map<string, Map<string, number>>();
  for (const [key, value] of pairs) {
    const own = counts.get(key) ?? new Map<string, number>();
    own.set(value, (own.get(value) ?? 0) + 1);
    counts.set(key, own);
  }
  const best = (own: Map<string, number>): string => [...own].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
  return new Map([...counts].map(([key, own]) => [key, best(own)]));
}

/**
 * The usual baseline of tagging: every word gets the tag that it most often had in training. A word that was never seen gets
 * the most frequent tag of its longest known ending (up to four letters), else the most frequent tag of all.
 * @returns the tag of a word.
 */
export function wordBaseline(train: readonly TokenRow[]): (word: string) => string {
  const pairs = train.flatMap(({ tokens, tags }) => tokens.map((t, i) => [t.toLowerCase(), tags[i] ?? ""] as const));
  const ofWord = mostFrequent(pairs);
  const endings = (word: string): string[] =>
    Array.from({ length: LONGEST_SUFFIX }, (_, i) => word.slice(i - LONGEST_SUFFIX)).concat("");
  // Endings are learnt from the vocabulary, each word once: frequent words are irregular.
  const ofEnding = mostFrequent([...ofWord].flatMap(([word, tag]) => endings(word).map((end) => [end, tag] as const)));
  return (word) => {
    const lower = word.toLowerCase();
    const ending = endings(lower).find((end) => ofEnding.has(end)) ?? "";
    return ofWord.get(lower) ?? ofEnding.get(ending) ?? "";
  };
}

/** Share of words with the right tag. */
export function baselineAccuracy(tagOf: (word: string) => string, test: readonly TokenRow[]): number {
  const words = test.flatMap(({ tokens, tags }) => tokens.map((token, i) => tagOf(token) === tags[i]));
  return words.filter(Boolean).length / words.length;
}
