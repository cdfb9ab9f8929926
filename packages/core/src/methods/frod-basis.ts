import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { inverse, solve } from "../linalg/lu.ts";
import {
  add,
  columnNorms,
  identity,
  type Matrix,
  matrix,
  multiply,
  rowRange,
  scale,
  scaleColumns,
  transpose,
} from "../linalg/matrix.ts";
import { qr } from "../linalg/qr.ts";
import { symmetricEigen } from "../linalg/symmetric-eigen.ts";
import { torchRandom } from "../random/torch-random.ts";

/**
 * What a module is called beside others of its role in other layers: the last two parts of its path, or one where a layer's number stands
 * before it. "attention_output" for BERT's, which would else be one with the second layer of the feed-forward block.
 */
export function categoryOf({ name }: Pick<SiteShape, "name">): string {
  const [third, second, last = name] = ["", "", ...name.split(".")].slice(-3);
  if (!second || /^\d+$/.test(second)) return last;
  return third === "attention" && second === "output" && last === "dense" ? "attention_output" : `${second}_${last}`;
}

/** Modules by category, in the order of their names. @throws PeftError CONFIG_INVALID for inputs of several widths in one */
export function categoriesOf<S extends SiteShape>(sites: readonly S[]): Map<string, S[]> {
  const found = new Map<string, S[]>();
  for (const site of sites) {
    const category = categoryOf(site);
    const list = found.get(category) ?? [];
    found.set(category, [...list, site]);
    const [first = site] = list;
    if (first.inFeatures === site.inFeatures) continue;
    throw new PeftError(
      "CONFIG_INVALID",
      `FRoD takes "${first.name}" and "${site.name}" for one kind of module ("${category}"), and their inputs differ: ${first.inFeatures} and ${site.inFeatures}.`,
      { hint: "Choose one of them with targetModules." },
    );
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * A basis [in, in] that all weights of a category share: with W_k = Q_k·R from one QR decomposition of all of them, Rᵀ times the eigenvectors
 * of the mean of (Q_kᵀ·Q_k + alpha·I)⁻¹. Where all of them together have fewer rows than columns, their right singular vectors.
 */
export function sharedBasis(weights: readonly Matrix[], alpha: number): Matrix {
  const width = weights[0]?.columns ?? 0;
  const rows = weights.reduce((sum, w) => sum + w.rows, 0);
  const stacked = matrix(rows, width, Float64Array.from(weights.flatMap((w) => [...w.data])));
  if (rows < width) return symmetricEigen(multiply(stacked, stacked, { transA: true })).vectors;
  const { q, r } = qr(stacked);
  const ridge = scale(identity(width), alpha);
  let start = 0;
  let mean = matrix(width, width);
  for (const { rows: count } of weights) {
    const part = rowRange(q, start, start + count);
    start += count;
    mean = add(mean, scale(inverse(add(multiply(part, part, { transA: true }), ridge)), 1 / weights.length));
  }
  const symmetric = scale(add(mean, transpose(mean)), 0.5);
  return multiply(r, symmetricEigen(symmetric).vectors, { transA: true });
}

/** W = U·diag(lengths)·Vᵀ with columns of length 1 in U; what is (almost) zero is zero in U. @throws PeftError SINGULAR_MATRIX */
export function inBasis(weight: Matrix, basis: Matrix): { readonly U: Matrix; readonly lengths: Float64Array } {
  const columns = transpose(solve(basis, transpose(weight)));
  const lengths = columnNorms(columns);
  return {
    U: scaleColumns(
      columns,
      lengths.map((l) => (l > 1e-12 ? 1 / l : 0)),
    ),
    lengths,
  };
}

/** Places outside the diagonal of [width, width] matrices, row by row, [2, count] each: drawn one after the other, as peft does. */
export function drawPlaces(
  sizes: readonly { readonly width: number; readonly count: number }[],
  seed: number,
): Float32Array[] {
  const random = torchRandom(seed);
  return sizes.map(({ width, count }) => {
    const drawn = random.randperm(width * (width - 1)).subarray(0, count);
    const places = new Float32Array(2 * count);
    drawn.forEach((place, i) => {
      const [row, column] = [Math.floor(place / (width - 1)), place % (width - 1)];
      places[i] = row;
      places[count + i] = column < row ? column : column + 1;
    });
    return places;
  });
}
