import type { SiteShape } from "../adapters/site.ts";
import { add, type Matrix, matrix, multiply, scale } from "../linalg/matrix.ts";
import type { BlockConfig, BlockPlacement } from "./bottleneck-config.ts";
import { addToWeight, frozenMatrix } from "./dense.ts";
import type { AdapterTensor, FrozenSite, SiteDelta } from "./method.ts";

/** An adapter without non-linearity: v goes to product·v + shift. */
export interface LinearAdapter {
  readonly product: Matrix;
  readonly shift: Matrix;
}

const column = ({ data }: AdapterTensor): Matrix => matrix(data.length, 1, data);

/**
 * s·U·D and s·(U·d + u) for up U [out, b] and down D [b, in].
 * @param scaling a number, or a tensor with one entry or one for each row.
 */
export function linearAdapter(
  up: Matrix,
  down: Matrix,
  { downBias, upBias }: { readonly downBias?: AdapterTensor | undefined; readonly upBias?: AdapterTensor | undefined },
  scaling: number | AdapterTensor,
): LinearAdapter {
  let shift = matrix(up.rows, 1);
  if (downBias) shift = multiply(up, column(downBias));
  if (upBias) shift = add(shift, column(upBias));
  const scaled = (m: Matrix): Matrix => {
    if (typeof scaling === "number") return scale(m, scaling);
    const { data } = scaling;
    const factor = (row: number): number => data[data.length === 1 ? 0 : row] ?? 1;
    return matrix(
      m.rows,
      m.columns,
      m.data.map((v, i) => v * factor(Math.floor(i / m.columns))),
    );
  };
  return { product: scaled(multiply(up, down)), shift: scaled(shift) };
}

/** An adapter P, p behind a module as a change of it: W' = W + P·W, c' = c + P·c + p. */
export function behindModule(site: SiteShape, frozen: FrozenSite, { product, shift }: LinearAdapter): SiteDelta {
  const weight = addToWeight(site, multiply(product, frozenMatrix(site, frozen)));
  const own = site.hasBias ? multiply(product, matrix(site.outFeatures, 1, frozen.bias())) : null;
  const bias = own ? add(shift, own) : shift;
  return site.hasBias || bias.data.some((v) => v !== 0)
    ? { weight, bias: { add: Float32Array.from(bias.data) } }
    : { weight };
}

/** Why an adapter at a residual branch is no change of the module that ends it, or null. */
export function whyNoChange(placement: BlockPlacement, config: BlockConfig): string | null {
  const { nonLinearity, originalLnBefore, lnBefore, lnAfter, useGating } = config;
  if (nonLinearity !== "identity") return `its bottleneck has a non-linearity (${nonLinearity})`;
  if (placement === "pfeifferParallel") return "it reads the residual stream, and the module does not";
  return originalLnBefore || lnBefore || lnAfter || useGating ? "norms and gates are no change of a weight" : null;
}
