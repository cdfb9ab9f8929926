import { z } from "zod";
import { PeftError } from "../errors.ts";
import { gated } from "./gated.ts";
import { declared, defineMethod, type Method, type MethodPart, noForward } from "./method.ts";
import type { StepHooks } from "./step-hooks.ts";

// 1. Config
export const compositionConfig = z.strictObject({
  /** The methods, each with its own options and its own modules; every type once. */
  parts: z
    .array(
      z.strictObject({
        /** `peft_type` of a registered method. */
        method: z.string().min(1).max(64),
        config: z.record(z.string(), z.unknown()).default({}),
        /** Its effect is multiplied by a trained gate: see `gated.ts`. */
        gated: z.boolean().default(false),
      }),
    )
    .min(1)
    .max(16),
});
export type CompositionConfig = z.output<typeof compositionConfig>;

/** The options of a method among those that choose its modules. */
function ownOptions(method: Method, config: Readonly<Record<string, unknown>>): object {
  const { shape } = method.config as unknown as z.ZodObject;
  const own = Object.entries(config).filter(([name]) => Object.hasOwn(shape, name));
  const parsed = method.config.safeParse(Object.fromEntries(own));
  if (parsed.success) return parsed.data;
  throw new PeftError("CONFIG_INVALID", `The options of the part ${method.type} are invalid: ${parsed.error.message}`);
}

/** @throws PeftError PARTS when two parts are of one type, claim one name, or both change attention */
function checkParts(parts: readonly MethodPart[]): void {
  const problem = (message: string): PeftError =>
    new PeftError("PARTS", message, { hint: "Compose methods of different types at different places." });
  const attention = parts.filter(({ method }) => method.attend);
  const [first, second] = attention;
  if (first && second) throw problem(`${first.method.type} and ${second.method.type} both change attention blocks.`);
  const owner = new Map<string, string>();
  for (const { method } of parts) {
    if (method.parts) throw problem(`${method.type} is no part of a composition itself.`);
    for (const key of Object.values(method.keys)) {
      const other = owner.get(key);
      if (other !== undefined) throw problem(`Parts ${other} and ${method.type} both have tensors "${key}".`);
      owner.set(key, method.type);
    }
  }
}

/** One set of hooks out of several, each with a state of its own. */
function together(hooks: readonly { readonly type: string; readonly own: StepHooks }[]): StepHooks {
  const each = (call: (own: StepHooks) => void): void => {
    for (const { own } of hooks) call(own);
  };
  return {
    beforeStep: (step) => each((own) => own.beforeStep?.(step)),
    beforeUpdate: (step, gradients) => each((own) => own.beforeUpdate?.(step, gradients)),
    held: () => new Map(hooks.flatMap(({ own }) => [...(own.held?.() ?? [])])),
    onStep: (step, gradients) => each((own) => own.onStep?.(step, gradients)),
    grow: (step) => hooks.flatMap(({ own }) => [...(own.grow?.(step) ?? [])]),
    state: () =>
      Object.fromEntries(
        hooks.flatMap(({ type, own }) =>
          Object.entries(own.state?.() ?? {}).map(([name, values]) => [`${type}:${name}`, values]),
        ),
      ),
    restore(state) {
      for (const { type, own } of hooks) {
        const mine = Object.entries(state).filter(([name]) => name.startsWith(`${type}:`));
        own.restore?.(Object.fromEntries(mine.map(([name, values]) => [name.slice(type.length + 1), values])));
      }
    },
  };
}

/**
 * A method made of methods: each acts at its own modules with its own options, and where two meet at one value the later one adapts
 * what the earlier one made of it. Everything follows from the parts: tensors and their names, schedules and penalties.
 * It does not merge. `modulesToSave` stands beside the parts and not in them.
 * @param methodOf the registered method of a type.
 */
export const composition = (methodOf: (type: string) => Method): Method<CompositionConfig> => {
  const partsOf = ({ parts }: CompositionConfig): MethodPart[] => {
    const list = parts.map(({ method: type, config, gated: isGated }): MethodPart => {
      const method = methodOf(type);
      return { method: isGated ? gated(method) : method, config, own: ownOptions(method, config) };
    });
    checkParts(list);
    return list;
  };
  return defineMethod<CompositionConfig>({
    type: "COMPOSITION",
    paper: "2110.07577",
    kinds: ["linear", "embedding", "norm", "conv", "attention", "tokens"],
    identityAtStart(config) {
      const starts = partsOf(config).map(({ method, own }) => declared(method.identityAtStart, own));
      if (starts.includes(false)) return false;
      return starts.includes("rounded") ? "rounded" : true;
    },
    neutral: (config) =>
      partsOf(config).some(({ method, own }) => declared(method.neutral, own) === "none") ? "none" : "empty",
    config: compositionConfig,
    defaultTargets: null,
    parts: partsOf,
    // 2. Parameters: those of the parts.
    parameters: () => ({}),
    // 3. Forward: that of the parts.
    forward: noForward,
    // 4. Delta
    delta: null,
    noDelta: "its parts may change one weight one after the other, and are not merged together",
    // 5. Keys: those of the parts.
    keys: {},
    penalty(g, sites, config) {
      const terms = partsOf(config).flatMap(({ method, own }) => {
        const mine = sites.filter(({ site }) => site.method === method.type);
        return method.penalty?.(g, mine, own) ?? [];
      });
      return terms.reduce<(typeof terms)[number] | null>((sum, term) => (sum ? g.add(sum, term) : term), null);
    },
    hooks: (setup) =>
      together(
        partsOf(setup.config).flatMap(({ method, own }) => {
          const sites = setup.sites.filter((site) => site.method === method.type);
          const hooks = method.hooks?.({ ...setup, config: own, sites: sites as never });
          return hooks ? [{ type: method.type, own: hooks }] : [];
        }),
      ),
  });
};

type Options = Readonly<Record<string, unknown>>;

/**
 * MAM: prefix tuning in attention and a scaled parallel adapter beside feed-forward, with AdapterHub's defaults. He et al. 2022, arXiv
 * 2110.04366.
 * @example
 * injectAdapter(model, { method: composed, config: mam() });
 */
export const mam = (
  options: { readonly prefixTuning?: Options; readonly adapter?: Options } = {},
): CompositionConfig => ({
  parts: [
    {
      method: "PREFIX_TUNING",
      config: { numVirtualTokens: 30, prefixProjection: true, encoderHiddenSize: 800, ...options.prefixTuning },
      gated: false,
    },
    { method: "BOTTLENECK", config: { placement: "pfeifferParallel", ...options.adapter }, gated: false },
  ],
});

/**
 * UniPELT: prefix tuning, a Pfeiffer adapter and LoRA, each behind a gate, with AdapterHub's defaults. Mao et al. 2022, arXiv 2110.07577.
 * @param options.lora its targetModules have to be given: query and value in the paper.
 * @example
 * injectAdapter(model, { method: composed, config: unipelt({ lora: { targetModules: ["query", "value"] } }) });
 */
export const unipelt = (options: {
  readonly lora: Options;
  readonly prefixTuning?: Options;
  readonly adapter?: Options;
}): CompositionConfig => ({
  parts: [
    {
      method: "PREFIX_TUNING",
      config: { numVirtualTokens: 10, prefixProjection: true, encoderHiddenSize: 512, ...options.prefixTuning },
      gated: true,
    },
    { method: "BOTTLENECK", config: { placement: "pfeiffer", useGating: true, ...options.adapter }, gated: false },
    { method: "LORA", config: { r: 8, alpha: 2, ...options.lora }, gated: true },
  ],
});
