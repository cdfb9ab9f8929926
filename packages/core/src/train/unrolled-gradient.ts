/** Training values or gradients by name. */
type Vectors = ReadonlyMap<string, Float32Array>;

/** What {@link unrolledGradient} needs of an engine. */
export interface UnrolledSetup {
  /** Parameters of the inner problem, as the engine feeds them; back at their values at the end. */
  readonly weights: Vectors;
  /** Learning rate ξ of the step that is looked ahead. */
  readonly rate: number;
  /** Mean gradients at the present values, of the inner problem's batch or the outer one's: arrays that live until the next call. */
  gradients(of: "inner" | "outer"): Promise<Vectors>;
}

const copies = (vectors: Vectors): Map<string, Float32Array> =>
  new Map(Array.from(vectors, ([name, data]) => [name, data.slice()]));

/**
 * The gradient of a bi-level problem one step ahead (DARTS, Liu et al. 2018, arXiv 1806.09055, section 2.3): with w' = w - ξ dL_inner/dw
 * and v = dL_outer(w', a)/dw',
 *   dL_outer(w', a)/da - ξ (dL_inner(w + εv, a)/da - dL_inner(w - εv, a)/da) / 2ε,  ε = 0.01 / |v|.
 * Costs four gradients. What is not a weight gets this gradient, for the weights it has no meaning.
 */
export async function unrolledGradient({ weights, rate, gradients }: UnrolledSetup): Promise<Vectors> {
  const start = copies(weights);
  const moveTo = (direction: Vectors, factor: number): void => {
    for (const [name, values] of weights) {
      const [from, along] = [start.get(name), direction.get(name)];
      for (let i = 0; i < values.length; i++) values[i] = (from?.[i] ?? 0) + factor * (along?.[i] ?? 0);
    }
  };
  try {
    moveTo(copies(await gradients("inner")), -rate);
    const outer = copies(await gradients("outer"));
    let square = 0;
    for (const name of weights.keys()) for (const v of outer.get(name) ?? []) square += v * v;
    const epsilon = square > 0 ? 0.01 / Math.sqrt(square) : 0;
    if (epsilon === 0) return outer;
    moveTo(outer, epsilon);
    const above = copies(await gradients("inner"));
    moveTo(outer, -epsilon);
    const below = await gradients("inner");
    return new Map(
      Array.from(outer, ([name, data]) => [
        name,
        data.map((d, i) => d - (rate * ((above.get(name)?.[i] ?? 0) - (below.get(name)?.[i] ?? 0))) / (2 * epsilon)),
      ]),
    );
  } finally {
    for (const [name, values] of weights) values.set(start.get(name) ?? values);
  }
}
