/** The learning rates that every method is tried with first. */
export const DECADES: readonly number[] = [1e-3, 1e-2, 1e-1];

/** Half a decade, as one writes it: 0.01 to 0.03, and 0.01 to 0.003. */
const HALF = 3;
const LIMITS = { lowest: 1e-6, highest: 10 } as const;

/** Without the last digits that multiplication leaves: 0.003, not 0.0030000000000000005. */
const rounded = (rate: number): number => Number(rate.toPrecision(3));

/**
 * The learning rate with the best score, by the same search for every method: {@link DECADES}, further ones while the best
 * is the first or the last of those tried and better than its neighbour, then the half decade between it and its better neighbour. Of equal scores
 * the lower rate wins. A single decade is taken as it is.
 * @param score null: the training diverged.
 * @returns null when every rate that was tried diverged.
 */
export async function chooseRate(
  score: (rate: number) => Promise<number | null>,
  decades: readonly number[] = DECADES,
): Promise<number | null> {
  const scores = new Map<number, number>();
  const attempt = async (rate: number): Promise<void> => {
    scores.set(rate, (await score(rate)) ?? Number.NEGATIVE_INFINITY);
  };
  /** All rates that were tried, in order, and which is best. */
  const state = (): { tried: number[]; best: number } => {
    const tried = [...scores.keys()].sort((a, b) => a - b);
    let best = 0;
    for (const rate of tried) if (best === 0 || (scores.get(rate) ?? 0) > (scores.get(best) ?? 0)) best = rate;
    return { tried, best };
  };
  for (const rate of decades) await attempt(rate);
  while (decades.length > 1) {
    const { tried, best } = state();
    const isBetterThan = (neighbour: number | undefined): boolean =>
      neighbour !== undefined && (scores.get(best) ?? 0) > (scores.get(neighbour) ?? 0);
    const goesDown = best === tried[0] && (isBetterThan(tried[1]) || scores.get(best) === Number.NEGATIVE_INFINITY);
    const goesUp = best === tried.at(-1) && isBetterThan(tried.at(-2));
    const next = goesDown ? rounded(best / 10) : goesUp ? rounded(best * 10) : null;
    if (next === null || next < LIMITS.lowest || next > LIMITS.highest) break;
    await attempt(next);
  }
  if (decades.length > 1) {
    const { tried, best } = state();
    const at = tried.indexOf(best);
    const scoreOf = (rate: number | undefined): number =>
      rate === undefined ? Number.NEGATIVE_INFINITY : (scores.get(rate) ?? Number.NEGATIVE_INFINITY);
    const [below, above] = [tried[at - 1], tried[at + 1]];
    const isLower = above === undefined || (below !== undefined && scoreOf(below) >= scoreOf(above));
    await attempt(rounded((isLower ? best / 10 : best) * HALF));
  }
  const chosen = state().best;
  return scores.get(chosen) === Number.NEGATIVE_INFINITY ? null : chosen;
}
