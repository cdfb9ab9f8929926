import type { SiteShape, SublayerShape } from "../../adapters/site.ts";

/** A module that ends a residual branch, as adapters at branches see it. */
export const branch = (name: string, width: number, kind: SublayerShape["kind"]): SiteShape => ({
  name,
  kind: "linear",
  inFeatures: width,
  outFeatures: width,
  weightShape: [width, width],
  hasBias: true,
  sublayer: { kind, place: "last", inFeatures: width, norm: "after" },
});

/** What ends the branches of BERT-base, and those of a T5-base encoder. */
export const bertBranches = Array.from({ length: 12 }, (_, i) => [
  branch(`layer.${i}.attention.output.dense`, 768, "attention"),
  branch(`layer.${i}.output.dense`, 768, "feedForward"),
]).flat();

/** What ends the branches of T5-base: 12 layers of an encoder, 12 of a decoder that attends to it. */
export const t5Branches = [
  ...bertBranches,
  ...bertBranches,
  ...Array.from({ length: 12 }, (_, i) => branch(`decoder.${i}.EncDecAttention.o`, 768, "crossAttention")),
];

/** Trained values in percent of T5-base, its 62 norms among them, as the Compacter paper counts. */
export const t5Share = (trained: number): string => ((100 * (trained + 62 * 768)) / 222_903_552).toFixed(3);
