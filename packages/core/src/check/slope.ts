/** Steps of the central differences, relative to the size of a parameter's values; each is a quarter of the one before. */
const steps = [
  0.0625, 0.015_625, 0.003_906_25, 0.000_976_562_5, 0.000_244_140_625, 6.103_515_625e-5, 1.525_878_906_25e-5,
];
/** Relative difference of neighbouring steps at which smaller ones are not tried. */
const settled = 1e-3;

/**
 * Slope of a loss along a direction, from the neighbouring steps whose central differences are closest, and how far they can be trusted. A
 * kink close by shifts differences of all wider steps alike, by half of what the slopes ahead and behind are apart; without one, that
 * gap falls with the step.
 * @param lossAfter the loss after a step of that size.
 */
export async function slopeOf(lossAfter: (step: number) => Promise<number>): Promise<{ slope: number; noise: number }> {
  const here = await lossAfter(0);
  const [slopes, gaps]: [number[], number[]] = [[], []];
  let best = { slope: 0, noise: Number.POSITIVE_INFINITY };
  for (const step of steps) {
    const [ahead, behind] = [await lossAfter(step), await lossAfter(-step)];
    slopes.push((ahead - behind) / (2 * step));
    gaps.push((ahead - 2 * here + behind) / step);
    const [wider, wide, narrow] = slopes.slice(-3);
    const [wideGap = 0, gap = 0] = gaps.slice(-2);
    if (wider === undefined || wide === undefined || narrow === undefined) continue;
    // Two differences may agree by chance, at a kink; the one before must not be far off either.
    const kink = (2 / 3) * Math.abs(gap - wideGap / 4);
    const noise = Math.max(Math.abs(wide - narrow), Math.abs(wider - wide) / 4, kink);
    // The error of a central difference falls with the square of the step: one Richardson extrapolation.
    if (noise < best.noise) best = { slope: narrow + (narrow - wide) / 15, noise };
    if (noise < settled * Math.abs(narrow)) break;
  }
  return best;
}
