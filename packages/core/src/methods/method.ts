import type { z } from "zod";
import type { SiteKind, SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { Init } from "./init.ts";

/** One tensor of an adapter at one site, in PyTorch's layout. */
export interface ParameterSpec {
  readonly shape: readonly number[];
  readonly init: Init;
  /**
   * Names of the axes whose size belongs to the adapter and not to the model (the rank): symbolic in the graph, shared by
   * the site's parameters that use the same name, 0 in an absent adapter. null: fixed.
   */
  readonly free?: readonly (string | null)[];
  /** The operand of the base model that this parameter takes the place of; then `forward` has nothing to do for it. */
  readonly replaces?: "weight" | "bias";
  /** Default true; false for state that is saved with the adapter and never trained. */
  readonly trainable?: boolean;
}

/** A tensor of an adapter. */
export interface AdapterTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** What happens at a site. Values are float32, whatever the base computes in. */
export interface ForwardInput {
  /** What the module is applied to. */
  readonly x: Value;
  /** Its result with the bias added. */
  readonly y: Value;
  readonly site: SiteShape;
}

/** Change of one operand, in the layout of `SiteShape.weightShape`: added to the base, or put in its place. */
export type OperandChange = { readonly add: Float32Array } | { readonly replace: Float32Array };

export interface SiteDelta {
  readonly weight?: OperandChange;
  readonly bias?: OperandChange;
}

/** The frozen operands of a site in PyTorch's layout, read when asked for. */
export interface FrozenSite {
  weight(): Float32Array;
  bias(): Float32Array;
}

/** A method of an object type and not a function type, so that a method of a narrower config is still a `Method`. */
type DeltaOf<C> = {
  of(parameters: ByRole<AdapterTensor>, config: C, site: SiteShape, frozen: FrozenSite): SiteDelta;
}["of"];

/** A parameter's values by role. */
export type ByRole<T> = Readonly<Record<string, T>>;

/**
 * An adapter method: five pure parts (config, parameters, forward, delta, keys) and what is declared of it. No part holds
 * state or changes its arguments. Injecting, merging, several adapters, saving and swapping exist once, in `adapters/`,
 * and work from these parts.
 */
export interface Method<C extends object = object> {
  /** Name in `peft` (`peft_type`), or our own where it has none. */
  readonly type: string;
  /** arXiv number. */
  readonly paper: string | null;
  /** Kinds of sites it adapts. */
  readonly kinds: readonly SiteKind[];
  /** True when a new adapter changes nothing, bit for bit. */
  readonly identityAtStart: boolean;
  /** Values that stand for "no adapter" in a graph that takes it as inputs: free axes of size 0, or the base's own values. */
  readonly neutral: "empty" | "base";

  /** 1. Options of the method itself: a strict object. The fields that choose modules are shared (`targetFields`). */
  readonly config: z.ZodType<C>;
  /** Which sites are meant when `targetModules` is not given; null: it has to be given. */
  readonly defaultTargets: ((site: SiteShape) => boolean) | null;
  /** Why a site of a fitting kind cannot be adapted, or null. */
  refuses?(site: SiteShape): string | null;
  /** Config fields with a pattern field beside them that gives single modules another value: { r: "rankPattern" }. */
  readonly patterns?: Readonly<Record<string, string>>;

  /** 2. Tensors at a site. May look at the frozen weight. */
  parameters(site: SiteShape, config: C, frozen?: FrozenSite): ByRole<ParameterSpec>;
  /** 3. The adapted result. */
  forward(g: Builder, at: ForwardInput, parameters: ByRole<Value>, config: C): Value;
  /** 4. The same change as new weights, or null with a reason. */
  readonly delta: DeltaOf<C> | null;
  /** Why there is no delta. */
  readonly noDelta?: string;
  /** 5. Names in a checkpoint of `peft`, after the module's. */
  readonly keys: Readonly<Record<string, string>>;

  /**
   * For graphs that serve adapters of different configurations: the config whose forward has no numbers of its own, and
   * the tensors that give the same result under it.
   */
  readonly swap?: {
    config(config: C): C;
    tensors(parameters: ByRole<AdapterTensor>, config: C): ByRole<AdapterTensor>;
  };
  /** How the config is written in `adapter_config.json`, where that is not simply snake_case. */
  readonly peft?: {
    /** camelCase name here to snake_case name there. */
    readonly names?: Readonly<Record<string, string>>;
    /** Fields that must have one of these values, because others change what is computed. */
    readonly only?: Readonly<Record<string, readonly unknown[]>>;
  };
}

/** Declares a method; checks nothing at run time, infers the config's type. */
export const defineMethod = <C extends object>(method: Method<C>): Method<C> => method;

/** The config of one site: pattern fields applied. */
export function siteConfig<C extends object>(
  method: Method<C>,
  config: C,
  site: string,
  patternValue: (pattern: Readonly<Record<string, number>>, name: string, fallback: number) => number,
): C {
  const fields = config as Readonly<Record<string, unknown>>;
  const changed = Object.entries(method.patterns ?? {}).map(([field, patternField]) => {
    const pattern = (fields[patternField] ?? {}) as Readonly<Record<string, number>>;
    return [field, patternValue(pattern, site, fields[field] as number)];
  });
  return { ...config, ...Object.fromEntries(changed) };
}

/** Number of trained values of a method over some sites; shapes are enough. */
export const parameterCount = <C extends object>(method: Method<C>, config: C, sites: readonly SiteShape[]): number =>
  sites
    .flatMap((site) => Object.values(method.parameters(site, config)))
    .filter((spec) => spec.trainable !== false)
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
