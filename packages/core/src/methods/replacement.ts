import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { copyOfBase } from "./init.ts";
import type { AdapterTensor, ByRole, ParameterSpec, SiteDelta } from "./method.ts";

/** A trainable copy of a site's weight or bias in the place of the frozen one. */
export const copyOf = (site: SiteShape, operand: "weight" | "bias"): ParameterSpec => ({
  shape: operand === "weight" ? site.weightShape : [site.outFeatures],
  init: copyOfBase,
  replaces: operand,
});

/** Weight and, where the site has one, bias. */
export const copyOfModule = (site: SiteShape): ByRole<ParameterSpec> => ({
  weight: copyOf(site, "weight"),
  ...(site.hasBias ? { bias: copyOf(site, "bias") } : {}),
});

/** The delta of copies: they take the place of what is there. */
export function replaceWith(tensors: ByRole<AdapterTensor>): SiteDelta {
  const { weight, bias } = tensors;
  if (!weight && !bias) throw new PeftError("PARAMETER", "A replaced module needs a weight or a bias.");
  return {
    ...(weight ? { weight: { replace: weight.data } } : {}),
    ...(bias ? { bias: { replace: bias.data } } : {}),
  };
}
