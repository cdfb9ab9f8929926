import { config, mixed, type TriedConfig } from "./tried-config.ts";

/** Configurations that differ from others at convolutions and embeddings alone. */
export const siteConfigs: readonly TriedConfig[] = [
  { type: "LOHA", variant: "kernels from cores", config: config({ r: 2, useEffectiveConv2d: true, ...mixed }) },
  {
    type: "LOKR",
    variant: "kernels from cores, both factored",
    config: config({ r: 1, alpha: 3, useEffectiveConv2d: true, decomposeBoth: true, decomposeFactor: 4, ...mixed }),
  },
  { type: "LOKR", variant: "whole factors", config: config({ r: 4, decomposeFactor: 2, ...mixed }) },
  {
    type: "LORA",
    variant: "DoRA, embeddings",
    config: config({ r: 2, alpha: 3, useDora: true, targetModules: ["word_embeddings", "query"] }),
    stopsGradients: true,
  },
  {
    type: "IA3",
    variant: "kernels' inputs",
    config: config({
      targetModules: ["key", "output.dense"],
      feedforwardModules: ["output.dense", "features.image", "layers.0.up"],
    }),
  },
  {
    type: "OFT",
    variant: "embeddings, exact",
    config: config({ oftBlockSize: 4, useCayleyNeumann: false, targetModules: ["word_embeddings", "query"] }),
  },
];
