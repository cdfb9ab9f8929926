import type { z } from "zod";
import type { SiteKind, SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { Random } from "../random/random.ts";
import type { Calibration, SiteData } from "./calibration.ts";
import type { AttentionChange, AttentionInput, ForwardInput, HiddenStates, RowInput } from "./forward-input.ts";
import type { Init } from "./init.ts";
import type { HookSetup, HookSite, StepHooks } from "./step-hooks.ts";

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
  /** Default true; false for state that is saved with the adapter and never trained: indices, masks, random projections. */
  readonly trainable?: boolean;
  /** Default true; false for what the config and the base model determine: it is made again when a file is read. */
  readonly saved?: boolean;
  /** Element type in files. Values are float32 everywhere else (exact for integers below 2^24). Default float32. */
  readonly fileType?: FileType;
  /** What stands for "no adapter": one value for every entry, or values from the base; default 0. Free axes are empty. */
  readonly neutral?: number | ((frozen: FrozenSite) => Float32Array);
  /** Entries that are trained, where the others are zero and stay so; default all. */
  readonly entries?: number;
  /** The module whose tensor of this role it is: both are one, trained once, and files hold a copy under every name. */
  readonly tiedTo?: string;
  /**
   * For saved state by which the base model is recognised: its values over this base. An adapter with others is refused; a
   * file without it is taken as it is.
   */
  readonly witness?: (input: WitnessInput) => ArrayLike<number>;
}

/** What a witness is made from. */
export interface WitnessInput {
  /** The adapter's tensors at the site. */
  readonly tensors: ByRole<AdapterTensor>;
  readonly frozen: FrozenSite;
  /** Start values over this base. */
  made(role: string): AdapterTensor;
}

/** Element types of whole numbers in files. */
export const fileTypes = ["uint8", "int16", "int32", "int64"] as const;
export type FileType = (typeof fileTypes)[number];

/** A tensor of an adapter. */
export interface AdapterTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
  /** Element type in files, where that is not float32. */
  readonly fileType?: FileType;
}

/** What initialisers that fill several tensors together may look at. */
export interface StartInput<C> {
  readonly site: SiteShape;
  readonly config: C;
  readonly frozen: FrozenSite;
  /** A stream of the site's own. */
  readonly random: Random;
  /** The tensors that all sites share, as the file or `startShared` gave them, by role. */
  readonly shared?: ByRole<AdapterTensor>;
  /** What `calibration` asked for; absent where no data was given. */
  readonly data?: SiteData;
  /** The module of the model that `frozen` was rounded from, where that was given. */
  readonly original?: FrozenSite;
}

/** What initialisers of shared tensors may look at. */
export interface SharedStartInput<C> {
  readonly sites: readonly { readonly site: SiteShape; readonly frozen: FrozenSite }[];
  readonly config: C;
}

/** One of the methods that a composition consists of. */
export interface MethodPart {
  readonly method: Method;
  /** Its options with those that choose modules, as they were given. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Its own options, defaults filled in. */
  readonly own: object;
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

/** Methods of an object type and not function types, so that a method of a narrower config is still a `Method`. */
type DeltaOf<C> = {
  of(parameters: ByRole<AdapterTensor>, config: C, site: SiteShape, frozen: FrozenSite): SiteDelta;
}["of"];

/** Like {@link DeltaOf}, for what a method declares. */
type OfConfig<C, T> = { of(config: C): T }["of"];

type Identity = boolean | "rounded";

type Neutral = "empty" | "base" | "none";

type Place = "module" | "sublayer";

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
  /** True when a new adapter changes nothing, bit for bit, "rounded" when nothing but rounding; it may depend on the config. */
  readonly identityAtStart: Identity | OfConfig<C, Identity>;
  /**
   * Values that stand for "no adapter" in a graph that takes it as inputs: free axes of size 0, or the base's own values;
   * "none": there are no such values, and one session cannot serve the base model too.
   */
  readonly neutral: Neutral | OfConfig<C, Neutral>;
  /**
   * What `forward` gets and changes: a module's input and result (default), or input and result of the residual branch that
   * the module ends, in front of the sum with the residual stream.
   */
  readonly place?: Place | OfConfig<C, Place>;

  /** 1. Options of the method itself: a strict object. The fields that choose modules are shared (`targetFields`). */
  readonly config: z.ZodType<C>;
  /** Which sites are meant when `targetModules` is not given; null: it has to be given. */
  readonly defaultTargets: { of(site: SiteShape, config: C): boolean }["of"] | null;
  /** The methods that it consists of: they say everything else. */
  parts?(config: C): readonly MethodPart[];
  /** Which of the chosen sites are adapted; default all. */
  narrow?(sites: readonly SiteShape[], config: C): readonly SiteShape[];
  /** It adapts all fitting sites together, as one tensor for all of them: targetModules cannot be given. Default false. */
  readonly wholeModel?: boolean;
  /** Why a site of a fitting kind cannot be adapted, or null. */
  refuses?(site: SiteShape, config: C): string | null;
  /** Config fields with a pattern field beside them that gives single modules another value: { r: "rankPattern" }. */
  readonly patterns?: Readonly<Record<string, string>>;

  /** 2. Tensors at a site. `all` are the adapted sites in order, this one among them. */
  parameters(site: SiteShape, config: C, all: readonly SiteShape[]): ByRole<ParameterSpec>;
  /**
   * Tensors that all sites of an adapter use together (VeRA's projections, banks of vectors), once per adapter; `forward`
   * and `delta` get them beside the site's own. Gradients of one that is trained add up over the sites.
   */
  shared?(sites: readonly SiteShape[], config: C): ByRole<ParameterSpec>;
  /**
   * Values that are fed for every row of the batch: ids of tasks, weights of branches. The graph gets an input
   * "<type>.<role>" for each, in lower and snake case ("poly.task_ids"); `forward` finds it in `at.rows`.
   */
  rowInputs?(config: C): ByRole<RowInput>;
  /** Values that all sites read beside the tensors, computed once per graph from the shared tensors. */
  derive?(g: Builder, shared: ByRole<Value>, config: C, sites: readonly SiteShape[], hidden?: Value): ByRole<Value>;
  /** The model runs twice, first without the adapter: `derive` gets hidden states of that pass. */
  hiddenStates?(config: C): HiddenStates;
  /**
   * Virtual tokens that stand before those of the sequence. `role` is the shared tensor whose first axis counts them. "positions": the
   * real tokens move up by them. "sequence": the sequence itself gets longer.
   */
  readonly virtualTokens?: { readonly as: "positions" | "sequence"; role(config: C): string };
  /** For starts that need data: what is collected at a module. `start` is called with it. */
  readonly calibration?: Calibration<C>;
  /** Start values that belong together (both factors of one decomposition); they win over the specs' own. */
  start?(input: StartInput<C>): ByRole<Float32Array>;
  /** The same for shared tensors that come from the weights of all sites; made before `start` is called. */
  startShared?(input: SharedStartInput<C>): ByRole<Float32Array>;
  /** 3. The adapted result of a module; {@link noForward} where a method adapts none. */
  forward(g: Builder, at: ForwardInput, parameters: ByRole<Value>, config: C): Value;
  /** 3. What is added to an attention block. */
  attend?(g: Builder, at: AttentionInput, parameters: ByRole<Value>, config: C): AttentionChange;
  /** 4. The same change as new weights, or null with a reason. */
  readonly delta: DeltaOf<C> | null;
  /** Why there is no delta; beside a delta a function: why not with this config, or null. */
  readonly noDelta?: string | OfConfig<C, string | null>;
  /** The delta is not the same for every base weight (it multiplies W): unmerging needs the base model. Default false. */
  readonly deltaNeedsWeight?: boolean | OfConfig<C, boolean>;
  /** Why rows of one batch cannot have adapters of their own, where that is so: what the method does reaches across rows. */
  readonly noMixedBatch?: string;
  /** 5. Names in a checkpoint of `peft`, after the module's. */
  readonly keys: Readonly<Record<string, string>>;
  /** Names of the shared tensors, in graphs and in a checkpoint: they begin with "base_model.", those of prompts stand alone. */
  readonly sharedKeys?: Readonly<Record<string, string>> | ((role: string) => string);

  /** A regulariser: a scalar that is added to the mean loss of every step, or null when the config asks for none. */
  penalty?(
    g: Builder,
    sites: readonly { readonly site: HookSite<C>; readonly values: ByRole<Value> }[],
    config: C,
  ): Value | null;
  /** Schedules: rank budgets, masks, drawn ranks. */
  hooks?(setup: HookSetup<C>): StepHooks;
  /** The config of a trained adapter, where training changes it: ranks that grew. */
  trained?(config: C, sites: readonly { readonly site: SiteShape; readonly tensors: ByRole<AdapterTensor> }[]): C;

  /**
   * For graphs that serve adapters of different configurations: the config whose forward has no numbers of its own, and
   * the tensors that give the same result under it. A method without it serves adapters of one configuration.
   */
  readonly swap?: {
    /** What is served has other tensors than what is trained: a plain form of them. */
    readonly otherTensors?: true;
    config(config: C): C;
    tensors(parameters: ByRole<AdapterTensor>, config: C): ByRole<AdapterTensor>;
  };
  /** How the config is written in `adapter_config.json`, where that is not simply snake_case. */
  readonly peft?: {
    /** camelCase name here to snake_case name there. */
    readonly names?: Readonly<Record<string, string>>;
    /** The same adapter in a form that peft knows, where it has none of its own for this one. */
    write?(adapter: FileForm<C>): FileForm<C>;
    /** Options that say how an adapter is trained and not what it computes: files leave them out. */
    readonly unwritten?: readonly string[];
    /** The adapter that such a file stands for, where it holds less than was trained. */
    read?(adapter: FileForm<C>): FileForm<C>;
    /** Where files hold the tensors in other pieces than a graph takes: there and back, exactly. */
    readonly pieces?: {
      write(adapter: FileForm<C>): FileForm<C>;
      read(file: FileForm<C>): FileForm<C>;
    };
    /** Fields that must have one of these values, because others change what is computed. */
    readonly only?: Readonly<Record<string, readonly unknown[]>>;
  };
}

/** The forward of methods that adapt no modules. */
export const noForward = (): never => {
  throw new PeftError("METHOD", "This method adapts attention blocks, and was asked for the result of a module.");
};

/** A declaration that may depend on the config. */
export const declared = <C extends object, T extends boolean | string>(
  value: T | OfConfig<C, T> | undefined,
  config: C,
): T | false => (typeof value === "function" ? value(config) : (value ?? false));

/** Why adapters of this config cannot be written as new weights, or null when they can. */
export function whyNoDelta<C extends object>({ delta, noDelta }: Method<C>, config: C): string | null {
  const reason = typeof noDelta === "function" ? noDelta(config) : noDelta;
  return delta ? (reason ?? null) : (reason ?? "it has no delta");
}

/** Why batches cannot mix adapters of this config at these sites with others, or null when they can. */
export function whyNoMixedBatch<C extends object>(
  { noMixedBatch, parts }: Method<C>,
  config: C,
  sites: readonly SiteShape[],
): string | null {
  const ofParts = (parts?.(config) ?? []).map(({ method, own }) => whyNoMixedBatch(method, own, sites));
  const experts = sites.find(({ kind }) => kind === "experts");
  const ofSites = experts ? `at "${experts.name}" tokens are in the order of their experts, not of rows` : null;
  return ofParts.find((reason) => reason !== null) ?? noMixedBatch ?? ofSites;
}

/** Options and tensors by name. */
export interface FileForm<C> {
  readonly config: C;
  readonly tensors: ReadonlyMap<string, AdapterTensor>;
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

/**
 * Number of trained values of a method over some sites; shapes are enough. Leaves that only collect gradients (LoCA's probes)
 * stay as they are, are not saved and do not count.
 */
export function parameterCount<C extends object>(method: Method<C>, config: C, sites: readonly SiteShape[]): number {
  const parts = method.parts?.(config);
  if (parts) {
    const fitting = (part: Method): SiteShape[] => sites.filter((site) => part.kinds.includes(site.kind));
    return parts.reduce((sum, { method: part, own }) => sum + parameterCount(part, own, fitting(part)), 0);
  }
  const own = sites.flatMap((site) =>
    Object.values(method.parameters(site, config, sites)).filter(({ tiedTo = site.name }) => tiedTo === site.name),
  );
  return [...own, ...Object.values(method.shared?.(sites, config) ?? {})]
    .filter((spec) => spec.trainable !== false && spec.saved !== false)
    .reduce((sum, { shape, entries }) => sum + (entries ?? shape.reduce((a, b) => a * b, 1)), 0);
}
