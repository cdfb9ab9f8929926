import { expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { patternValue } from "../adapters/targets.ts";
import { adalora } from "./adalora.ts";
import { adaptionPrompt } from "./adaption-prompt.ts";
import { bitfit } from "./bitfit.ts";
import { boft } from "./boft.ts";
import { dylora } from "./dylora.ts";
import { fourierFt } from "./fourier-ft.ts";
import { frod } from "./frod.ts";
import { full } from "./full.ts";
import { hira } from "./hira.ts";
import { hra } from "./hra.ts";
import { hydra } from "./hydra.ts";
import { ia3 } from "./ia3.ts";
import { kronA } from "./kron-a.ts";
import { lily } from "./lily.ts";
import { lnTuning } from "./ln-tuning.ts";
import { loha } from "./loha.ts";
import { lokr } from "./lokr.ts";
import { lora } from "./lora.ts";
import { type Method, parameterCount, siteConfig } from "./method.ts";
import { mos } from "./mos.ts";
import { oft } from "./oft.ts";
import { paca } from "./paca.ts";
import { prefixTuning } from "./prefix-tuning.ts";
import { pvera } from "./pvera.ts";
import { randlora } from "./randlora.ts";
import { tinyLora } from "./tinylora.ts";
import { unilora } from "./unilora.ts";
import { vera } from "./vera.ts";
import { waveFt } from "./waveft.ts";

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

const conv = (inFeatures: number, outFeatures: number, kernel: readonly number[], groups = 1): SiteShape => ({
  name: "conv",
  kind: "conv",
  inFeatures,
  outFeatures,
  weightShape: [outFeatures, inFeatures / groups, ...kernel],
  hasBias: true,
  window: { strides: kernel.map(() => 1), dilations: kernel.map(() => 1), pads: kernel.flatMap(() => [0, 0]), groups },
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

test("prefix tuning of LLaMA-7B with 30 tokens, as LLM-Adapters counts it", () => {
  const sizes = { heads: 32, keyHeads: 32, keyWidth: 128, valueWidth: 128, hidden: 4096 };
  const blocks = Array.from(
    { length: 32 },
    (_, i): SiteShape => ({
      ...linear(`model.layers.${i}.self_attn`, 4096, 4096, false),
      kind: "attention",
      weightShape: [],
      attention: { ...sizes, crosses: false, isPacked: false, hasOutput: true },
    }),
  );
  expect(parameterCount(prefixTuning, prefixTuning.config.parse({ numVirtualTokens: 30 }), blocks)).toBe(7_864_320);
  // The published LLaMA-Adapter: 10 vectors in the top 30 blocks.
  const config = adaptionPrompt.config.parse({ adapterLen: 10 });
  expect(parameterCount(adaptionPrompt, config, blocks.slice(-30))).toBe(30 * (10 * 4096 + 1));
});

const attention = base.filter((s) => /query|value/.test(s.name));
const ffn = base.filter((s) => s.name.endsWith("output.dense") && !s.name.includes("attention"));

test.each([
  ["VeRA r 1024, RoBERTa-base query and value", vera, { r: 1024 }, attention, 43_008 + 1024 * 768 * 2],
  ["PVeRA r 256, twice VeRA's d", pvera, { r: 256 }, attention, 24 * (512 + 768) + 3 * 256 * 768],
  ["Uni-LoRA of 23,040 numbers in all", unilora, { thetaDLength: 23_040 }, attention, 23_040],
  // Two kinds of module: an A for every four layers, three B for all twelve, a router each.
  ["Lily r 32", lily, { r: 32, strideA: 4, numB: 3 }, attention, 2 * (3 * 32 * 768 + 3 * 32 * 768) + 24 * 3 * 32],
  // 5898 places of 768², one list and one basis for queries and one for values, their sizes.
  ["FRoD 0.01", frod, {}, attention, 24 * (768 + 5898) + 2 * (768 * 768 + 2 * 5898 + 2)],
  ["MoS e 2", mos, { r: 8, equivalentRank: 2, privateRank: 1, shardsPerVector: 4 }, attention, 2 * 24 * 1536],
  ["RandLoRA r 64", randlora, { r: 64 }, attention, 239_616 + 64 * 768 + 768 * 12 * 64],
  ["Hydra's GLUE preset", hydra, { parallelRank: 4, sequentialRank: 8, bias: false }, ffn, 331_776],
  ["FourierFT 1000", fourierFt, { nFrequency: 1000 }, attention, 24_000],
  ["WaveFT 2592", waveFt, {}, attention, 62_208],
  ["DyLoRA stores all of rMax", dylora, { rMax: 8 }, attention, 294_912],
] as [string, Method, object, SiteShape[], number][])("%s", (_, method, config, sites, expected) => {
  const own = (method.config as unknown as { parse(value: unknown): object }).parse(config);
  const frozen = Object.values(method.shared?.(sites, own) ?? {})
    .filter((spec) => spec.trainable === false)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(parameterCount(method, own, sites) + frozen).toBe(expected);
});

test("DiffuseKronA on the SDXL UNet: (4, 64) is a third smaller than LoRA r 4", () => {
  const block = (width: number): SiteShape[] => [
    ...Array.from({ length: 6 }, (_, i) => linear(`to.${i}`, width, width)),
    ...Array.from({ length: 2 }, (_, i) => linear(`cross.${i}`, 2048, width)),
  ];
  const sites = [
    ...Array.from({ length: 10 }, () => block(640)),
    ...Array.from({ length: 60 }, () => block(1280)),
  ].flat();
  expect(parameterCount(kronA, kronA.config.parse({ a1: 4, a2: 64 }), sites)).toBe(3_874_560);
  expect(parameterCount(lora, lora.config.parse({ r: 4 }), sites)).toBe(5_806_080);
});

test("LLaMA-2-7B, seven linears: 2,498,560 per rank", () => {
  const layer = (i: number): SiteShape[] => [
    ...["q", "k", "v", "o"].map((n) => linear(`layers.${i}.${n}_proj`, 4096, 4096, false)),
    ...["gate", "up"].map((n) => linear(`layers.${i}.${n}_proj`, 4096, 11008, false)),
    linear(`layers.${i}.down_proj`, 11008, 4096, false),
  ];
  const sites = Array.from({ length: 32 }, (_, i) => layer(i)).flat();
  expect(parameterCount(lora, lora.config.parse({ r: 1 }), sites)).toBe(2_498_560);
  expect(parameterCount(paca, paca.config.parse({ r: 8 }), sites)).toBe(10_878_976);
  const shards = mos.config.parse({ r: 16, equivalentRank: 8, privateRank: 2, shardsPerVector: 8 });
  expect(parameterCount(mos, shards, sites)).toBe(19_988_480);
});

test("TinyLoRA: from one number in all to u per module, in groups of neighbours", () => {
  const countOf = (fields: object): number => parameterCount(tinyLora, tinyLora.config.parse(fields), attention);
  expect(countOf({ u: 64 })).toBe(24 * 64);
  expect(countOf({ u: 1, weightTying: 1 })).toBe(1);
  expect(countOf({ u: 13, weightTying: 0.75 })).toBe(6 * 13);
  const config = tinyLora.config.parse({ weightTying: 0.79 }); // 5 groups of 4, the last one of 8
  const groups = attention.map((site) => {
    const { shape, init } = tinyLora.parameters(site, config, attention)["group"]!;
    return init({ shape, random: undefined as never, base: () => new Float32Array(0) })[0];
  });
  expect(groups.filter((group) => group === 0)).toHaveLength(4);
  expect(groups.filter((group) => group === 4)).toHaveLength(8);
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

const table = (rows: number, width: number): SiteShape => ({
  name: "table",
  kind: "embedding",
  inFeatures: rows,
  outFeatures: width,
  weightShape: [rows, width],
  hasBias: false,
});

test.each([
  { method: lora, options: { r: 4, useDora: true }, count: 4 * (1000 + 64) + 64 },
  { method: hira, options: { r: 4 }, count: 4 * (1000 + 64) },
  { method: oft, options: { oftBlockSize: 8 }, count: (64 * 7) / 2 },
  { method: tinyLora, options: { u: 5 }, count: 5 },
])("$method.type with $options at an embedding [1000, 64]", ({ method, options, count }) => {
  const any = method as unknown as Method;
  const config = (any.config as unknown as { parse(value: unknown): object }).parse(options);
  expect(parameterCount(any, config, [table(1000, 64)])).toBe(count);
});

test.each([
  // 2 r (out + in * places), and with cores 2 r (out + in + r places).
  { method: loha, options: { r: 4 }, site: conv(64, 128, [3, 3]), count: 8 * (128 + 64 * 9) },
  { method: loha, options: { r: 4 }, site: conv(64, 128, [3, 3], 2), count: 8 * (128 + 32 * 9) },
  { method: loha, options: { r: 4, useEffectiveConv2d: true }, site: conv(64, 128, [3, 3]), count: 8 * (192 + 36) },
  { method: loha, options: { r: 4, useEffectiveConv2d: true }, site: conv(64, 128, [1, 1]), count: 8 * 192 },
  // w1 [8, 8] and w2 [16, 8, 9] of rank 2: 8 * 8 + 2 (16 + 8 * 9), and with a core 8 * 8 + 2 (16 + 8) + 2 * 2 * 9.
  { method: lokr, options: { r: 2 }, site: conv(64, 128, [3, 3]), count: 64 + 2 * (16 + 72) },
  { method: lokr, options: { r: 2, useEffectiveConv2d: true }, site: conv(64, 128, [3, 3]), count: 64 + 48 + 36 },
  { method: lokr, options: { r: 8 }, site: conv(64, 128, [3]), count: 64 + 16 * 8 * 3 },
  { method: hra, options: { r: 8 }, site: conv(64, 128, [3, 3]), count: 8 * 64 * 9 },
  { method: ia3, options: {}, site: conv(64, 128, [3, 3]), count: 128 },
  { method: ia3, options: { feedforwardModules: ["conv"] }, site: conv(64, 128, [3, 3], 4), count: 64 },
  { method: hira, options: { r: 4 }, site: conv(64, 128, [3, 3]), count: 4 * (64 * 9 + 128) },
  { method: oft, options: { oftBlockSize: 32 }, site: conv(64, 128, [3, 3]), count: (64 * 9 * 31) / 2 },
  {
    method: boft,
    options: { boftBlockSize: 4, boftNButterflyFactor: 2 },
    site: conv(64, 128, [3, 3]),
    count: 2 * 4 * 576 + 128,
  },
  { method: adalora, options: { initR: 12 }, site: conv(64, 128, [3, 3]), count: 12 * (576 + 128 + 1) },
  { method: lora, options: { r: 4, useDora: true }, site: conv(64, 128, [3, 3]), count: 4 * (576 + 128) + 128 },
  { method: lora, options: { r: 4, loraBias: true }, site: conv(64, 128, [3, 3]), count: 4 * (576 + 128) + 128 },
])("$method.type with $options at a convolution $site.weightShape", ({ method, options, site, count }) => {
  const any = method as unknown as Method;
  const config = (any.config as unknown as { parse(value: unknown): object }).parse(options);
  expect(parameterCount(any, config, [site])).toBe(count);
});
