import { createArena } from "./arena.ts";
import { accumulate, norm, type Reflectors } from "./householder.ts";
import type { Kernels } from "./kernels.ts";
import type { Matrix } from "./matrix.ts";

/** A = U·B·Vᵀ with B upper bidiagonal: `diagonal` [n] and `above` [n - 1]. */
export interface Bidiagonal {
  readonly diagonal: Float64Array;
  readonly above: Float64Array;
  /** The loops that work on `ut` and `vt`. */
  readonly kernels: Kernels;
  /** Rows are the columns of U, [n, m]; absent when not asked for. */
  readonly ut?: Float64Array;
  /** [n, n] */
  readonly vt?: Float64Array;
}

/**
 * Reduces a matrix [m, n], m >= n, to upper bidiagonal form by Householder reflections from both sides. The rows of the
 * matrix are read and written once for each column: the reflection from the left, that from the right and the sums for the
 * next one are done together while a row is in the cache (after Howell et al. 2008, "Cache efficient bidiagonalization").
 * 8/3 n³ operations for m = n, twice that with both factors. Entries should be of moderate size.
 */
export function bidiagonalize(source: Matrix, vectors: boolean): Bidiagonal {
  const { rows: m, columns: n } = source;
  const arena = createArena(3 * m * n + 2 * n * n + 2 * n, 7);
  const { array, kernels } = arena;
  const a = array(m * n);
  a.set(source.data);
  const diagonal = new Float64Array(n);
  const above = new Float64Array(Math.max(0, n - 1));
  const left: Reflectors = { vectors: array(n * m), taus: new Float64Array(n), width: m, first: 0 };
  const right: Reflectors = {
    vectors: array(Math.max(0, n - 1) * n),
    taus: new Float64Array(Math.max(0, n - 1)),
    width: n,
    first: 1,
  };
  /** Sums over i >= k of a[i, k] a[i, j]: what the reflection of column k takes from column j, before its scaling. */
  let sums = array(n);
  let next = array(n);
  for (let i = 0; i < m; i++) kernels.addScaled(a[i * n] as number, a, i * n, sums, 0, n);

  for (let k = 0; k < n; k++) {
    // Left reflection of column k.
    const v = left.vectors;
    const vAt = k * m;
    for (let i = k; i < m; i++) v[vAt + i] = a[i * n + k] as number;
    const first = v[vAt + k] as number;
    const rest = norm(v, vAt + k + 1, m - k - 1);
    const beta = rest === 0 ? first : first >= 0 ? -Math.hypot(first, rest) : Math.hypot(first, rest);
    const tau = rest === 0 ? 0 : (beta - first) / beta;
    const scale = rest === 0 ? 0 : 1 / (first - beta);
    v[vAt + k] = 1;
    for (let i = k + 1; i < m; i++) v[vAt + i] = (v[vAt + i] as number) * scale;
    left.taus[k] = tau;
    diagonal[k] = beta;
    if (k === n - 1) break;
    const row = k * n;
    for (let j = k + 1; j < n; j++) {
      const w = tau * ((sums[j] as number) - beta * (a[row + j] as number)) * scale;
      sums[j] = w;
      a[row + j] = (a[row + j] as number) - w;
    }

    // Right reflection of row k.
    const u = right.vectors;
    const uAt = k * n;
    for (let j = k + 1; j < n; j++) u[uAt + j] = a[row + j] as number;
    const head = u[uAt + k + 1] as number;
    const tail = norm(u, uAt + k + 2, n - k - 2);
    const gamma = tail === 0 ? head : head >= 0 ? -Math.hypot(head, tail) : Math.hypot(head, tail);
    const sigma = tail === 0 ? 0 : (gamma - head) / gamma;
    const factor = tail === 0 ? 0 : 1 / (head - gamma);
    u[uAt + k + 1] = 1;
    for (let j = k + 2; j < n; j++) u[uAt + j] = (u[uAt + j] as number) * factor;
    right.taus[k] = sigma;
    above[k] = gamma;

    // Both on every row below, and the sums for the next column.
    next.fill(0, k + 1);
    const [from, count] = [k + 1, n - k - 1];
    for (let i = k + 1; i < m; i++) {
      const at = i * n + from;
      const part = kernels.addScaledDot(-(v[vAt + i] as number), sums, from, a, at, u, uAt + from, count);
      const g = sigma * part;
      kernels.chain(g, u, uAt + from, a, at, (a[at] as number) - g * (u[uAt + from] as number), next, from, count);
    }
    [sums, next] = [next, sums];
  }
  if (!vectors) return { diagonal, above, kernels };
  return { diagonal, above, kernels, ut: accumulate(arena, left, n), vt: accumulate(arena, right, n) };
}
