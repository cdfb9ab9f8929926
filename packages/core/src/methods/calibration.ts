import type { SiteShape } from "../adapters/site.ts";
import type { Matrix } from "../linalg/matrix.ts";
import type { Svd } from "../linalg/svd.ts";

/**
 * What a start wants to know of a linear module, collected over batches of data. X are the rows it is applied to, W [out, in] its weight.
 * - gram: the sum of xᵀ·x.
 * - covariance: the mean over batches of Xᵀ·X / max(X)².
 * - gradient: the leading singular values and vectors of the mean over batches of dLoss/dW.
 * - components: the leading principal components of X.
 */
export type DataNeed =
  | { readonly kind: "gram" }
  | { readonly kind: "covariance" }
  | { readonly kind: "gradient"; readonly rank: number }
  | {
      readonly kind: "components";
      readonly count: number;
      /** Cosine of a component before and after a batch from which on it counts as found. */
      readonly similarity: number;
      /** Rows with this label do not count, where there is a label per row; null: labels are not looked at. */
      readonly ignoredLabel: number | null;
    };

/** Principal components, largest variance first. */
export interface Components {
  /** Orthonormal rows [count, in]. */
  readonly directions: Matrix;
  readonly singularValues: Float64Array;
  /** Share of the variance. */
  readonly explained: Float64Array;
}

/** What was collected of a module: what its {@link DataNeed} asked for. */
export interface SiteData {
  /** [in, in] */
  readonly gram?: Matrix;
  /** [in, in] */
  readonly covariance?: Matrix;
  /** U [out, k], S, Vᵀ [k, in] of a gradient [out, in]. */
  readonly gradient?: Svd;
  readonly components?: Components;
}

/** A module whose components were found, in the order of the model. */
export interface ComponentSite<C> {
  readonly site: SiteShape;
  /** The options that hold for it. */
  readonly config: C;
  readonly components: Components;
  /** Modules that are applied to the same rows have the same number. */
  readonly input: number;
}

/** How a method starts from data. Linear modules only: others start as they do without. */
export interface Calibration<C> {
  /** What is collected at a module with these options, or null when they need no data. */
  needs(config: C): DataNeed | null;
  /** For "components": how many of each module's are used. Batches are read until all of those are found. */
  used?(sites: readonly ComponentSite<C>[]): readonly number[];
  /** Options that follow from the data and win over the given ones: ranks given to modules, modules left out. */
  settle?(
    config: C,
    sites: readonly ComponentSite<C>[],
    others: readonly { readonly site: SiteShape; readonly config: C }[],
  ): Readonly<Record<string, unknown>>;
}
