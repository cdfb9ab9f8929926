import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { activate } from "./activations.ts";
import { blockForward, blockKeys, blockParameters, blockWidths } from "./bottleneck-block.ts";
import {
  type BlockConfig,
  blockConfig,
  blockFields,
  blockPlacements,
  bottleneckWidth,
  leavesBase,
  noBranch,
  wantsBranch,
} from "./bottleneck-config.ts";
import { behindModule, linearAdapter, whyNoChange } from "./bottleneck-linear.ts";
import { roleOf } from "./dense.ts";
import { type Init, normal, uniform, zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";
import { type PhmWeight, phmMatrix, phmProduct, ruleOf } from "./phm.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const compacterConfig = z.strictObject({
  /** "houlsby" is Compacter, "pfeiffer" Compacter++. */
  placement: z.enum(blockPlacements).default("houlsby"),
  ...blockFields,
  reductionFactor: z.number().positive().default(32),
  nonLinearity: blockFields.nonLinearity.default("gelu"),
  /** n: the number of Kronecker products, and the size of their first factors; divides the hidden size and the bottleneck. */
  phmDim: z.int().positive().max(1024).default(4),
  /** One set of first factors for all modules. */
  sharedPhmRule: z.boolean().default(true),
  /** First factors of rank one. */
  factorizedPhmRule: z.boolean().default(false),
  learnPhm: z.boolean().default(true),
  /** Second factors as products of two of `phmRank`. */
  factorizedPhmW: z.boolean().default(true),
  phmRank: z.int().positive().max(1024).default(1),
  /** One set of second factors for all modules. */
  sharedWPhm: z.boolean().default(false),
  /** How first factors are drawn: normal with standard deviation `phmInitRange`, or uniform in [-1, 1] (a module's own: in ±0.01). */
  phmCInit: z.enum(["normal", "uniform"]).default("normal"),
  /** Default 0.0001 for factors that all modules share, 0.01 for a module's own. */
  phmInitRange: z.number().positive().optional(),
  /** How second factors are drawn. */
  hypercomplexNonlinearity: z.enum(["glorot-uniform", "glorot-normal", "normal"]).default("glorot-uniform"),
  phmBias: z.boolean().default(true),
});
export type CompacterConfig = z.output<typeof compacterConfig>;

const blockOf = (config: CompacterConfig): BlockConfig => blockConfig(config, config.placement);

const rangeOf = ({ phmInitRange, sharedPhmRule }: CompacterConfig): number =>
  phmInitRange ?? (sharedPhmRule ? 1e-4 : 1e-2);

/** Glorot's start of every matrix [rows, columns] of a tensor. */
function weightInit({ hypercomplexNonlinearity, ...config }: CompacterConfig, rows: number, columns: number): Init {
  if (hypercomplexNonlinearity === "normal") return normal(rangeOf({ hypercomplexNonlinearity, ...config }));
  const sum = rows + columns;
  return hypercomplexNonlinearity === "glorot-uniform" ? uniform(Math.sqrt(6 / sum)) : normal(Math.sqrt(2 / sum));
}

/** First factors, under a name. */
function ruleSpecs(name: string, config: CompacterConfig): Record<string, ParameterSpec> {
  const { phmDim: n, factorizedPhmRule, learnPhm: trainable, phmCInit, sharedPhmRule } = config;
  const init = phmCInit === "normal" ? normal(rangeOf(config)) : uniform(sharedPhmRule ? 1 : 0.01);
  return factorizedPhmRule
    ? {
        [`${name}Left`]: { shape: [n, n, 1], init, trainable },
        [`${name}Right`]: { shape: [n, 1, n], init, trainable },
      }
    : { [name]: { shape: [n, n, n], init, trainable } };
}

/** Second factors of a layer from `width` to `out` features. */
function weightSpecs(side: string, width: number, out: number, config: CompacterConfig): Record<string, ParameterSpec> {
  const { phmDim: n, phmRank: r } = config;
  if (width % n !== 0 || out % n !== 0) throw sizeError(`phmDim ${n}`, width, out);
  const spec = (rows: number, columns: number): ParameterSpec => ({
    shape: [n, rows, columns],
    init: weightInit(config, rows, columns),
  });
  const [p, o] = [width / n, out / n];
  return config.factorizedPhmW ? { [`${side}Left`]: spec(p, r), [`${side}Right`]: spec(r, o) } : { [side]: spec(p, o) };
}

const widthsOf = (site: SiteShape, config: CompacterConfig) => {
  const block = blockOf(config);
  const { read, written } = blockWidths(site, config.placement, block);
  return { read, written, b: bottleneckWidth(written, block.reductionFactor) };
};

/** First and second factors of a side, a module's own or shared. */
function factorsOf<T extends object>(values: ByRole<T>, side: string, rule: (left: T, right: T) => T) {
  const name = values[`${side}Rule`] || values[`${side}RuleLeft`] ? `${side}Rule` : "rule";
  const left = values[`${name}Left`];
  const weight: PhmWeight<T> = values[side] ?? {
    left: roleOf(values, `${side}Left`),
    right: roleOf(values, `${side}Right`),
  };
  return { rule: left ? rule(left, roleOf(values, `${name}Right`)) : roleOf(values, name), weight };
}

/** f(v·Hd + d)·Hu + u. */
function project(g: Builder, v: Value, values: ByRole<Value>, { nonLinearity }: CompacterConfig): Value {
  const layer = (x: Value, side: string): Value => {
    const { rule, weight } = factorsOf(values, side, (left, right) => g.matMul(left, right));
    const product = phmProduct(g, x, rule, weight);
    const bias = values[`${side}Bias`];
    return bias ? g.add(product, bias) : product;
  };
  return layer(activate(g, layer(v, "down"), nonLinearity), "up");
}

const sides = ["down", "up"] as const;
const inFiles = { down: "W", downLeft: "W_left", downRight: "W_right" } as const;

/**
 * Compacter: bottleneck adapters at residual branches whose projections are sums of n Kronecker products, H = Σ_i A_i ⊗ (L_i·R_i), with small first factors A
 * that all modules share and second factors of rank one. Karimi Mahabadi et al. 2021, arXiv 2106.04647. Options and defaults are AdapterHub's,
 * save that "glorot-uniform" is what it says (there it draws from the normal one). `factorizedPhmW: false` is the plain PHM adapter.
 * Parameters per module: 2 n r (d/n + b/n) + b + d, once n³; b = d / reductionFactor. The start is the identity up to the square of the
 * range of A, some 1e-8 of the activations.
 * @example
 * injectAdapter(model, { method: compacter, config: { placement: "pfeiffer" } }); // Compacter++
 */
export const compacter = defineMethod<CompacterConfig>({
  type: "COMPACTER",
  paper: "2106.04647",
  kinds: ["linear"],
  identityAtStart: (config) =>
    rangeOf(config) <= 1e-3 && config.phmCInit === "normal" && leavesBase(blockOf(config)) ? "rounded" : false,
  neutral: (config) => (leavesBase(blockOf(config)) ? "empty" : "none"),
  place: "sublayer",
  config: compacterConfig,
  defaultTargets: (site, config) => wantsBranch(site, blockOf(config)),
  refuses: noBranch,
  // 2. Parameters
  parameters(site, config) {
    const { read, written, b } = widthsOf(site, config);
    const own: Record<string, ParameterSpec> = {};
    for (const [side, width, out] of [
      ["down", read, b],
      ["up", b, written],
    ] as const) {
      if (!config.sharedWPhm) Object.assign(own, weightSpecs(side, width, out, config));
      if (!config.sharedPhmRule) Object.assign(own, ruleSpecs(`${side}Rule`, config));
      if (config.phmBias) own[`${side}Bias`] = { shape: [out], init: zeros };
    }
    return { ...own, ...blockParameters({ read, written }, blockOf(config)) };
  },
  shared(sites, config) {
    const specs = config.sharedPhmRule ? ruleSpecs("rule", config) : {};
    const [first] = sites;
    if (!config.sharedWPhm || !first) return specs;
    const { read, written, b } = widthsOf(first, config);
    const other = sites.find((site) => {
      const widths = widthsOf(site, config);
      return widths.read !== read || widths.written !== written;
    });
    if (other) {
      throw new PeftError(
        "SIZE_MISMATCH",
        `"${first.name}" and "${other.name}" differ in width and cannot share factors.`,
        {
          hint: "Set sharedWPhm to false, or leave modules out with excludeModules.",
        },
      );
    }
    return { ...specs, ...weightSpecs("down", read, b, config), ...weightSpecs("up", b, written, config) };
  },
  // 3. Forward
  forward: (g, at, values, config) =>
    blockForward(g, at, values, blockOf(config), config.placement, (v) => project(g, v, values, config)),
  // 4. Delta: where there is no non-linearity.
  delta(tensors, config, site, frozen) {
    const [down, up] = sides.map((side) => {
      const { rule, weight } = factorsOf<AdapterTensor>(tensors, side, ruleOf);
      return transpose(phmMatrix(rule, weight));
    }) as [ReturnType<typeof transpose>, ReturnType<typeof transpose>];
    const { scaling } = blockOf(config);
    const factor = typeof scaling === "number" ? scaling : roleOf(tensors, "scaling");
    return behindModule(site, frozen, linearAdapter(up, down, tensors, factor));
  },
  noDelta: (config) => whyNoChange(config.placement, blockOf(config)),
  deltaNeedsWeight: true,
  // 5. Keys
  keys: {
    ...blockKeys,
    ...Object.fromEntries(
      sides.flatMap((side) => [
        ...Object.entries(inFiles).map(([role, name]) => [role.replace("down", side), `adapter_${side}.${name}`]),
        [`${side}Rule`, `adapter_${side}.phm_rule`],
        [`${side}RuleLeft`, `adapter_${side}.phm_rule_left`],
        [`${side}RuleRight`, `adapter_${side}.phm_rule_right`],
        [`${side}Bias`, `adapter_${side}.b`],
      ]),
    ),
  },
  sharedKeys: {
    rule: "base_model.shared_parameters.phm_rule",
    ruleLeft: "base_model.shared_parameters.phm_rule_left",
    ruleRight: "base_model.shared_parameters.phm_rule_right",
    ...Object.fromEntries(
      sides.flatMap((side) =>
        Object.entries(inFiles).map(([role, name]) => [
          role.replace("down", side),
          `base_model.shared_parameters.${name.replace("W", `W_${side}`)}`,
        ]),
      ),
    ),
  },
});
