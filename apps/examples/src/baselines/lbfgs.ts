/** Value at `x`; writes the gradient into `gradient`. */
export type Objective = (x: Float64Array, gradient: Float64Array) => number;

export interface MinimizeOptions {
  /** Stops when no component of the gradient exceeds this. */
  tolerance: number;
  maxIterations: number;
  /** Pairs of steps and gradient changes that are kept; memory is 2 · history vectors. Default 8. */
  history?: number;
}

export interface Minimum {
  readonly x: Float64Array;
  readonly value: number;
  readonly iterations: number;
  readonly converged: boolean;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** y += scale * x */
function addScaled(y: Float64Array, x: Float64Array, scale: number): void {
  for (let i = 0; i < y.length; i++) y[i] = (y[i] as number) + scale * (x[i] as number);
}

const largest = (a: Float64Array): number => a.reduce((max, x) => Math.max(max, Math.abs(x)), 0);

interface Pair {
  /** Step between two points. */
  readonly s: Float64Array;
  /** Change of the gradient over it. */
  readonly y: Float64Array;
  readonly rho: number;
}

/** -H·g with the inverse Hessian that the pairs imply: two-loop recursion (Nocedal and Wright, algorithm 7.4). */
function descentDirection(gradient: Float64Array, pairs: readonly Pair[]): Float64Array {
  const q = gradient.map((g) => -g);
  const alphas: number[] = [];
  for (const { s, y, rho } of pairs.toReversed()) {
    const alpha = rho * dot(s, q);
    addScaled(q, y, -alpha);
    alphas.push(alpha);
  }
  const last = pairs.at(-1);
  const scale = last ? 1 / (last.rho * dot(last.y, last.y)) : 1 / Math.max(1, Math.sqrt(dot(gradient, gradient)));
  for (let i = 0; i < q.length; i++) q[i] = (q[i] as number) * scale;
  for (const { s, y, rho } of pairs) addScaled(q, s, (alphas.pop() ?? 0) - rho * dot(y, q));
  return q;
}

/**
 * Minimises a smooth convex function by L-BFGS (Liu and Nocedal 1989) with step halving until the decrease is a ten-thousandth of what
 * the slope promises.
 *
 * @param start not changed.
 */
export function minimize(objective: Objective, start: Float64Array, options: MinimizeOptions): Minimum {
  const { tolerance, maxIterations, history = 8 } = options;
  let x = start.slice();
  let gradient = new Float64Array(x.length);
  let value = objective(x, gradient);
  const pairs: Pair[] = [];

  for (let iterations = 0; iterations < maxIterations; iterations++) {
    if (largest(gradient) <= tolerance) return { x, value, iterations, converged: true };
    const direction = descentDirection(gradient, pairs);
    const slope = dot(direction, gradient);
    const next = new Float64Array(x.length);
    const nextGradient = new Float64Array(x.length);
    let nextValue = Number.POSITIVE_INFINITY;
    let step = 1;
    for (; step > 1e-10; step /= 2) {
      next.set(x);
      addScaled(next, direction, step);
      nextValue = objective(next, nextGradient);
      if (nextValue <= value + 1e-4 * step * slope) break;
    }
    // No decrease along a descent direction: the value is exact to its last digits.
    if (step <= 1e-10) return { x, value, iterations, converged: false };

    for (let i = 0; i < direction.length; i++) direction[i] = (direction[i] as number) * step;
    const change = nextGradient.slice();
    addScaled(change, gradient, -1);
    const curvature = dot(direction, change);
    if (curvature > 0) {
      pairs.push({ s: direction, y: change, rho: 1 / curvature });
      if (pairs.length > history) pairs.shift();
    }
    x = next;
    gradient = nextGradient;
    value = nextValue;
  }
  return { x, value, iterations: maxIterations, converged: largest(gradient) <= tolerance };
}
