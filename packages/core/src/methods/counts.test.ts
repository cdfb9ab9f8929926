import { expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { patternValue } from "../adapters/targets.ts";
import { bitfit } from "./bitfit.ts";
import { full } from "./full.ts";
import { lnTuning } from "./ln-tuning.ts";
import { lora } from "./lora.ts";
import { parameterCount, siteConfig } from "./method.ts";

const linear = (name: string, inFeatures: number, outFeatures: number, hasBias = true): SiteShape => ({
  name,
  kind: "linear",
  inFeatures,
  outFeatures,
  weightShape: [outFeatures, inFeatures],
  hasBias,
});
const norm = (name: string, size: number): SiteShape => ({
  name,
  kind: "norm",
  inFeatures: size,
  outFeatures: size,
  weightShape: [size],
  hasBias: true,
});

/** All sites of a BERT-base shaped encoder (RoBERTa-base is the same but for its embeddings). */
const base: SiteShape[] = [
  norm("embeddings.LayerNorm", 768),
  ...Array.from({ length: 12 }, (_, i) => `encoder.layer.${i}`).flatMap((at) => [
    linear(`${at}.attention.self.query`, 768, 768),
    linear(`${at}.attention.self.key`, 768, 768),
    linear(`${at}.attention.self.value`, 768, 768),
    linear(`${at}.attention.output.dense`, 768, 768),
    norm(`${at}.attention.output.LayerNorm`, 768),
    linear(`${at}.intermediate.dense`, 768, 3072),
    linear(`${at}.output.dense`, 3072, 768),
    norm(`${at}.output.LayerNorm`, 768),
  ]),
  linear("pooler.dense", 768, 768),
];

test("published parameter counts, from shapes alone", () => {
  const config = lora.config.parse({ r: 8 });
  expect(
    parameterCount(
      lora,
      config,
      base.filter((s) => /query|value/.test(s.name)),
    ),
  ).toBe(294_912);
  expect(parameterCount(bitfit, {}, base)).toBe(102_912);
  expect(
    parameterCount(
      lnTuning,
      {},
      base.filter((s) => s.kind === "norm"),
    ),
  ).toBe(25 * 2 * 768);
  expect(parameterCount(full, {}, [linear("classifier", 768, 2)])).toBe(2 * 768 + 2);
});

test("LLaMA-2-7B, seven linears: 2,498,560 per rank", () => {
  const layer = (i: number): SiteShape[] => [
    ...["q", "k", "v", "o"].map((n) => linear(`layers.${i}.${n}_proj`, 4096, 4096, false)),
    ...["gate", "up"].map((n) => linear(`layers.${i}.${n}_proj`, 4096, 11008, false)),
    linear(`layers.${i}.down_proj`, 11008, 4096, false),
  ];
  const sites = Array.from({ length: 32 }, (_, i) => layer(i)).flat();
  expect(parameterCount(lora, lora.config.parse({ r: 1 }), sites)).toBe(2_498_560);
});

test("rank and alpha patterns give single modules other values", () => {
  const config = lora.config.parse({
    r: 8,
    alpha: 16,
    rankPattern: { "layer.1.*query": 2, value: 4 },
    alphaPattern: { query: 3 },
  });
  const at = (name: string) => {
    const { r, alpha } = siteConfig(lora, config, name, patternValue);
    return [r, alpha];
  };
  expect(at("encoder.layer.1.attention.self.query")).toEqual([2, 3]);
  expect(at("encoder.layer.0.attention.self.query")).toEqual([8, 3]);
  expect(at("encoder.layer.0.attention.self.value")).toEqual([4, 16]);
  expect(at("value")).toEqual([4, 16]);
  expect(at("encoder.layer.0.devalue")).toEqual([8, 16]);
});
