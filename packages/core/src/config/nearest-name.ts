/** Spellings that differ only in case, "_", "-" or "." are the same word: `weight_decay` is `weightDecay`. */
const normalise = (name: string): string => name.toLowerCase().replaceAll(/[_\-.\s]/g, "");

/**
 * Edit distance with insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
 * Costs O(a * b) time.
 */
export function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(
        (previous[j - 1] as number) + (same ? 0 : 1),
        (previous[j] as number) + 1,
        (row[j - 1] as number) + 1,
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforePrevious[j - 2] as number) + 1);
      }
      row.push(cost);
    }
    beforePrevious = previous;
    previous = row;
  }
  return previous[b.length] as number;
}

/**
 * The candidate a misspelled name most likely meant, or undefined when none is close: at most a third of the name's letters,
 * but at least two, may differ. One name that contains the other whole also counts (`lr` does not find `learningRate`).
 *
 * @example
 * nearestName("weight_decay", ["weightDecay", "learningRate"]); // "weightDecay"
 * nearestName("zebra", ["weightDecay"]); // undefined
 */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = normalise(name).slice(0, 100); // hostile input must not buy quadratic time
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(wanted.length / 3)) + 0.5;
  for (const candidate of candidates) {
    const normalised = normalise(candidate).slice(0, 100);
    const shorter = Math.min(wanted.length, normalised.length);
    const contained = shorter >= 4 && (normalised.includes(wanted) || wanted.includes(normalised));
    const distance = contained && normalised !== wanted ? 1.5 : editDistance(wanted, normalised);
    // Two or three letters match almost anything at distance 2.
    if (distance < bestDistance && distance < Math.max(wanted.length, normalised.length) - 1) {
      best = candidate;
      bestDistance = distance;
    } else if (distance === 0) {
      return candidate;
    }
  }
  return best;
}
