import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { eye } from "./orthogonal.ts";

/**
 * Products of cores [size_d, R, R] for every multi-index, [N, R, R]: entry k = A^1[k_1]·A^2[k_2]..., the first core running
 * fastest. The counterpart of `ringChain` in a graph: one product of [N R, R] with [R, size R] for each core after the first.
 */
export function ringChainValue(g: Builder, cores: readonly Value[], rank: number): Value {
  let [chain, count] = [g.reshape(eye(g, rank), [1, rank, rank]), 1];
  cores.forEach((core, d) => {
    const size = Number(core.shape[0]);
    if (d > 0) {
      const beside = g.reshape(g.transpose(core, [1, 0, 2]), [rank, size * rank]);
      const product = g.reshape(g.matMul(g.reshape(chain, [count * rank, rank]), beside), [count, rank, size, rank]);
      chain = g.reshape(g.transpose(product, [2, 0, 1, 3]), [size * count, rank, rank]);
    } else chain = core;
    count *= size;
  });
  return chain;
}

/** Matrices [n, R, R] as rows [n, R²]; `turned` transposes each, so that a product of both forms takes the trace of products. */
const asRows = (g: Builder, chain: Value, rank: number, turned: boolean): Value =>
  g.reshape(turned ? g.transpose(chain, [0, 2, 1]) : chain, [Number(chain.shape[0]), rank * rank]);

/** The two factors of a tensor ring over rows and columns: D = left·rightᵀ with left [rows, R²] and right [columns, R²]. */
export const ringFactors = (g: Builder, rows: readonly Value[], columns: readonly Value[], rank: number) => ({
  left: asRows(g, ringChainValue(g, rows, rank), rank, false),
  right: asRows(g, ringChainValue(g, columns, rank), rank, true),
});

/**
 * T [n, n] of cores [n_d, n_d, R, R], n the product of n_d: T[i, j] = trace(A^1[i_1, j_1] A^2[i_2, j_2] ...), the first factor of i
 * and of j running fastest. n² R² multiplications: the last core is multiplied as the trace is taken.
 */
export function ringKroneckerValue(g: Builder, cores: readonly Value[], sizes: readonly number[], rank: number): Value {
  const order = sizes.length;
  const pairs = cores.map((core, d) => g.reshape(core, [(sizes[d] as number) ** 2, rank, rank]));
  const before = asRows(g, ringChainValue(g, pairs.slice(0, -1), rank), rank, false);
  const last = asRows(g, pairs[order - 1] as Value, rank, true);
  const traces = g.fusedMatMul(last, before, { transB: true }); // [n_D², the other pairs]
  const slowestFirst = [...sizes].reverse();
  const interleaved = g.reshape(
    traces,
    slowestFirst.flatMap((size) => [size, size]),
  ); // [i_D, j_D, .., i_1, j_1]
  const axes = slowestFirst.map((_, k) => 2 * k);
  const n = sizes.reduce((a, b) => a * b, 1);
  return g.reshape(g.transpose(interleaved, [...axes, ...axes.map((axis) => axis + 1)]), [n, n]);
}

/**
 * x·Tᵀ for rows x [..., n] without T: the last core first, each in one product. With j_d the slowest index that is not contracted yet
 * and r the index that closes the ring, a step is Y[.., i_d, a', r] = sum over j_d, a of A^d[i_d, j_d, a', a]·Y[.., j_d, a, r].
 */
export function ringApply(
  g: Builder,
  x: Value,
  cores: readonly Value[],
  sizes: readonly number[],
  rank: number,
): Value {
  const order = sizes.length;
  const n = sizes.reduce((a, b) => a * b, 1);
  let rest = n;
  let done = 1;
  /** [rows, j_d, later j, finished i, a, r]; before the last core there is no a and no r. */
  let state = g.reshape(g.toMatrix(x), ["?rows", n]);
  for (let d = order - 1; d >= 0; d--) {
    const size = sizes[d] as number;
    const core = cores[d] as Value; // [i, j, a', a]
    rest /= size;
    if (d === order - 1) {
      const product = g.reshape(g.transpose(core, [1, 0, 2, 3]), [size, size * rank * rank]);
      const columns = g.transpose(g.reshape(state, ["?rows", size, rest]), [0, 2, 1]);
      // Of the last core a' is a, and its other index closes the ring.
      state = g.reshape(g.matMul(columns, product), ["?rows", rest, size, rank, rank]);
    } else {
      const product = g.reshape(g.transpose(core, [1, 3, 0, 2]), [size * rank, size * rank]); // (j, a) to (i, a')
      const split = g.reshape(state, ["?rows", size, rest, done, rank, rank]);
      const columns = g.reshape(g.transpose(split, [0, 2, 3, 5, 1, 4]), ["?rows", rest * done * rank, size * rank]);
      const result = g.reshape(g.matMul(columns, product), ["?rows", rest, done, rank, size, rank]);
      state = g.reshape(g.transpose(result, [0, 1, 2, 4, 5, 3]), ["?rows", rest, done * size, rank, rank]);
    }
    done *= size;
  }
  const traces = g.reduceSum(g.mul(g.reshape(state, ["?rows", n, rank, rank]), eye(g, rank)), [2, 3], false);
  return g.reshapeLike(traces, x);
}

/** sum over r, r' of |slice - Id / R|_F for slices [R, R, n, n]; 1e-12 keeps the root's derivative finite at zero. */
function distance(g: Builder, slices: Value, size: number, rank: number): Value {
  const rest = g.sub(slices, g.mul(eye(g, size), 1 / rank));
  return g.reduceSum(g.sqrt(g.add(g.reduceSum(g.mul(rest, rest), [2, 3], false), 1e-12)), [0, 1], false);
}

/** Distance of a core [n, n, R, R] from that of the identity: sum over r, r' of |A[:, :, r, r'] - Id / R|_F. */
export const identityDistance = (g: Builder, core: Value, size: number, rank: number): Value =>
  distance(g, g.transpose(core, [2, 3, 0, 1]), size, rank);

/** G[i, j] = sum over l of A[i, l] ⊗ A[j, l]: the core of T·Tᵀ, as slices [R², R², n, n]. */
export function gramSlices(g: Builder, core: Value, size: number, rank: number): Value {
  const rows = g.reshape(g.transpose(core, [0, 2, 3, 1]), [size * rank * rank, size]);
  const product = g.fusedMatMul(rows, rows, { transB: true });
  const split = g.reshape(product, [size, rank, rank, size, rank, rank]); // [i, a, b, j, a', b']
  return g.reshape(g.transpose(split, [1, 4, 2, 5, 0, 3]), [rank * rank, rank * rank, size, size]);
}

/** Distance of T·Tᵀ from the identity, core by core: sum over r, r' of |G[:, :, r, r'] - Id / R²|_F. */
export const orthogonalDistance = (g: Builder, core: Value, size: number, rank: number): Value =>
  distance(g, gramSlices(g, core, size, rank), size, rank * rank);
