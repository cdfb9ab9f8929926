import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { multiply } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { activate } from "./activations.ts";
import { blockForward, blockKeys, blockParameters, blockWidths } from "./bottleneck-block.ts";
import {
  type BlockConfig,
  type BlockPlacement,
  blockConfig,
  blockFields,
  blockPlacements,
  bottleneckWidth,
  leavesBase,
  linearPlacements,
  noBranch,
  wantsBranch,
} from "./bottleneck-config.ts";
import { behindModule, linearAdapter, whyNoChange } from "./bottleneck-linear.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { type Init, kaimingUniform, normal, ones, truncatedNormal, zeros } from "./init.ts";
import { type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const bottleneckConfig = z.strictObject({
  placement: z.enum([...linearPlacements, ...blockPlacements]).default("auto"),
  /** Width of the bottleneck at a single linear module; default 256. At residual branches `reductionFactor` counts. */
  bottleneckSize: z.int().positive().max(65_536).optional(),
  ...blockFields,
  /**
   * Start: "bert" both projections ~ N(0, 0.02²); "mam_adapter" the up projection is zero, so that nothing changes; "houlsby" both
   * ~ N(0, 0.01²) within two standard deviations. Default "bert", beside a branch "mam_adapter".
   */
  initWeights: z.enum(["bert", "mam_adapter", "houlsby"]).optional(),
  /** At single linear modules: by default only those that end the feed-forward part (AdapterP), not all of it (AdapterH). */
  useAdapterP: z.boolean().default(false),
});
export type BottleneckConfig = z.output<typeof bottleneckConfig>;

const defaultSize = 256;

const blockPlacement = ({ placement }: BottleneckConfig): BlockPlacement | null =>
  blockPlacements.find((name) => name === placement) ?? null;

/** The placement at residual branches with its options, or null at a single linear module. */
function blockOf(config: BottleneckConfig): { placement: BlockPlacement; block: BlockConfig } | null {
  const placement = blockPlacement(config);
  return placement ? { placement, block: blockConfig(config, placement) } : null;
}

/** Where the adapter of a single linear module is: in front of one that widens, behind any other. */
function sideOf({ inFeatures, outFeatures }: SiteShape, { placement }: BottleneckConfig) {
  if (placement === "input" || placement === "parallel") return placement;
  return placement === "auto" && outFeatures > inFeatures ? "input" : "output";
}

const startsAtZero = (config: BottleneckConfig): boolean =>
  (config.initWeights ?? (config.placement === "pfeifferParallel" ? "mam_adapter" : "bert")) === "mam_adapter";

function startsOf(config: BottleneckConfig): { down: Init; up: Init } {
  if (startsAtZero(config)) return { down: kaimingUniform(Math.sqrt(5)), up: zeros };
  const init = config.initWeights === "houlsby" ? truncatedNormal(0.01, 2) : normal(0.02);
  return { down: init, up: init };
}

const nonLinearityOf = (config: BottleneckConfig) =>
  blockOf(config)?.block.nonLinearity ?? config.nonLinearity ?? "tanh";
const scalingOf = (config: BottleneckConfig) => blockOf(config)?.block.scaling ?? config.scaling ?? 1;

/** U·f(D·v + d) + u. */
function project(g: Builder, v: Value, values: ByRole<Value>, config: BottleneckConfig): Value {
  const linear = (x: Value, role: string): Value => {
    const product = g.fusedMatMul(x, roleOf(values, role), { transB: true });
    const bias = values[`${role}Bias`];
    return bias ? g.add(product, bias) : product;
  };
  return linear(activate(g, linear(v, "down"), nonLinearityOf(config)), "up");
}

/**
 * Bottleneck adapters: A(v) = s·(U·f(D·v + d) + u), a narrow layer beside or behind what is frozen.
 *
 * At a residual branch (attention or feed-forward, found in the graph; with biases d, u), as AdapterHub defines them:
 * "houlsby" behind both kinds of branches (Houlsby et al. 2019, arXiv 1902.00751), "pfeiffer" behind feed-forward, reading the layer's norm (Pfeiffer
 * et al. 2020, arXiv 2005.00247), "pfeifferParallel" beside feed-forward, scaled (He et al. 2022, arXiv 2110.04366): see {@link blockForward}.
 * Target modules are the linear ones that end branches. Parameters per module 2·d·b + b + d, b = d / reductionFactor.
 *
 * At a single linear module y = x·Wᵀ + c (no biases; b = bottleneckSize), as LLM-Adapters does (Hu et al. 2023, arXiv 2304.01933):
 *   "input" y = (x + A(x))·Wᵀ + c, "output" y' = y + A(y), "parallel" y' = y + A(x); "auto": "input" where out > in, else "output".
 * Parameters 2·b·in, 2·b·out or b·(in + out). The exact identity is `initWeights: "mam_adapter"`, which is not the default of either source.
 *
 * `nonLinearity: "identity"` makes a change of the weight of it, which merges: "parallel" is then LoRA with s·U·D.
 * @example
 * injectAdapter(model, { method: bottleneck, config: { placement: "houlsby" } });
 */
export const bottleneck = defineMethod<BottleneckConfig>({
  type: "BOTTLENECK",
  paper: "1902.00751",
  kinds: ["linear"],
  identityAtStart: (config) =>
    startsAtZero(config) && leavesBase(blockConfig(config, blockPlacement(config) ?? "houlsby")),
  neutral: (config) => {
    const found = blockOf(config);
    return !found || leavesBase(found.block) ? "empty" : "none";
  },
  place: (config) => (blockOf(config) ? "sublayer" : "module"),
  config: bottleneckConfig,
  defaultTargets(site, config) {
    const found = blockOf(config);
    if (found) return wantsBranch(site, found.block);
    const { kind, place } = site.sublayer ?? {};
    if (config.placement === "parallel") return kind === "attention" && place === "first";
    if (kind !== "feedForward") return false;
    const isLast = place === "last";
    if (config.placement === "input") return !isLast;
    return isLast || (config.placement === "auto" && !config.useAdapterP);
  },
  refuses: (site, config) => (blockOf(config) ? noBranch(site) : null),
  // 2. Parameters
  parameters(site, config) {
    const { down, up } = startsOf(config);
    const matrices = (b: number, read: number, written: number): Record<string, ParameterSpec> => ({
      down: { shape: [b, read], free: ["b", null], init: down },
      up: { shape: [written, b], free: [null, "b"], init: up },
    });
    const found = blockOf(config);
    if (found) {
      const widths = blockWidths(site, found.placement, found.block);
      const b = config.bottleneckSize ?? bottleneckWidth(widths.written, found.block.reductionFactor);
      return {
        ...matrices(b, widths.read, widths.written),
        downBias: { shape: [b], free: ["b"], init: zeros },
        upBias: { shape: [widths.written], init: zeros },
        ...blockParameters(widths, found.block),
      };
    }
    const side = sideOf(site, config);
    const [read, written] = [
      side === "output" ? site.outFeatures : site.inFeatures,
      side === "input" ? site.inFeatures : site.outFeatures,
    ];
    const scaling = scalingOf(config);
    return {
      ...matrices(config.bottleneckSize ?? defaultSize, read, written),
      ...(typeof scaling === "string" ? { scaling: { shape: [scaling === "channel" ? written : 1], init: ones } } : {}),
    };
  },
  // 3. Forward
  forward(g, at, values, config) {
    const found = blockOf(config);
    if (found) return blockForward(g, at, values, found.block, found.placement, (v) => project(g, v, values, config));
    const { x, y, site } = at;
    const scaling = scalingOf(config);
    const adapter = (v: Value): Value => {
      const out = project(g, g.dropout(v, config.dropout), values, config);
      return scaling === 1 ? out : g.mul(out, typeof scaling === "number" ? scaling : roleOf(values, "scaling"));
    };
    const side = sideOf(site, config);
    return side === "input" ? at.base(g.add(x, adapter(x))) : g.add(y, adapter(side === "output" ? y : x));
  },
  // 4. Delta: where there is no non-linearity.
  delta(tensors, config, site, frozen) {
    const scaling = scalingOf(config);
    const factor = typeof scaling === "number" ? scaling : roleOf(tensors, "scaling");
    const [up, down] = [toMatrix(roleOf(tensors, "up")), toMatrix(roleOf(tensors, "down"))];
    const adapter = linearAdapter(up, down, tensors, factor);
    const side = blockOf(config) ? "output" : sideOf(site, config);
    if (side === "output") return behindModule(site, frozen, adapter);
    const { product } = adapter;
    const change = side === "parallel" ? product : multiply(frozenMatrix(site, frozen), product);
    return { weight: addToWeight(site, change) };
  },
  noDelta(config) {
    const found = blockOf(config);
    if (found) return whyNoChange(found.placement, found.block);
    const name = nonLinearityOf(config);
    return name === "identity" ? null : `its bottleneck has a non-linearity (${name})`;
  },
  deltaNeedsWeight: ({ placement }) => placement !== "parallel",
  // 5. Keys
  keys: {
    down: "adapter_down.weight",
    downBias: "adapter_down.bias",
    up: "adapter_up.weight",
    upBias: "adapter_up.bias",
    ...blockKeys,
  },
  peft: { names: { dropout: "adapter_dropout" }, only: { bias: ["none"] } },
});
