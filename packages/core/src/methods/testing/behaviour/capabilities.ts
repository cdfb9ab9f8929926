import { expect } from "vitest";
import { createAdapterSet } from "../../../adapters/adapter-set.ts";
import { injectAdapter, isReplacement } from "../../../adapters/inject.ts";
import { mergeAdapter, unmergeAdapter } from "../../../adapters/merge.ts";
import { fromPeft, inPeftForm, toPeft } from "../../../adapters/peft-files.ts";
import {
  type AdapterConfig,
  type AdapterConfigInput,
  methodConfig,
  parseAdapterConfig,
} from "../../../adapters/select.ts";
import type { Site } from "../../../adapters/site.ts";
import { findSites } from "../../../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../../../adapters/swappable.ts";
import { targetOf } from "../../../adapters/targets.ts";
import { unwrappedNames } from "../../../adapters/wrapped-names.ts";
import { encodeModel } from "../../../onnx/write.ts";
import { quantizeModel } from "../../../quantization/quantize-model.ts";
import { onnxruntimeNode } from "../../../runtime/onnxruntime-node.ts";
import type { Feeds } from "../../../runtime/runtime.ts";
import { declared, parameterCount, whyNoMixedBatch } from "../../method.ts";
import type { Ground } from "../grounds.ts";
import { startValues } from "../start-values.ts";
import { checkConversion, conversionRefusal } from "./conversion.ts";
import { checkGradients } from "./gradients.ts";
import { checkMixedBatch } from "./mixed.ts";
import { close, createTrial, differ, type Trial, targetsOn } from "./trial.ts";

/** Why something is not offered: the error's code, and words of its message. */
export interface Refusal {
  readonly code: string;
  readonly reason: string;
}

/** Something that a method can do, or refuses. The matrix tries every one with every method on every ground. */
export interface Capability {
  /** How records and docs/methods.md call it. */
  readonly name: string;
  /** False where there is nothing to try. */
  applies?(trial: Trial): boolean;
  /** What must be thrown where the method does not declare it; null where it does. */
  refusal?(trial: Trial): Refusal | null;
  /** Tries it: throws or fails an expectation where it does not hold. May say how it holds; else "yes". */
  check(trial: Trial): Promise<string | undefined>;
}

/** Seeds of the two adapters that all checks use, so that their results are computed once. */
const [A, B] = [3, 8];

const merging = ({ noDelta }: Trial): Refusal | null =>
  noDelta === null ? null : { code: "NO_DELTA", reason: noDelta };

/** What belongs to one base model does not fit a changed one. */
const belongsToBase = ({ inject }: Trial): boolean => inject().parameters.some(({ spec }) => spec.witness);
const otherBase: Refusal = { code: "BASE_MISMATCH", reason: "another base model" };

const identity: Capability = {
  name: "identity",
  async check(trial) {
    const { identity } = trial;
    const base = await trial.base();
    const start = await trial.runAdapted(trial.start(1));
    if (identity === true) expect(start).toEqual(base);
    else if (identity === "rounded") close(start, base, 1e-5);
    else differ(start, base);
    differ(await trial.adapted(A), base);
    return identity === true ? "exact" : identity === "rounded" ? "to rounding" : "no";
  },
};

const parameters: Capability = {
  name: "count",
  async check({ method, config, inject }) {
    const { plans, parameters } = inject();
    const own = plans.filter((plan) => plan.method.type === method.type);
    const saved = plans.filter((plan) => plan.method.type !== method.type);
    const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
    const trained = parameters
      .filter((p) => p.trainable && p.spec.saved !== false)
      .reduce((sum, { shape, spec }) => sum + (spec.entries ?? size(shape)), 0);
    const whole = saved.flatMap((plan) => plan.parameters).reduce((sum, { shape }) => sum + size(shape), 0);
    const sites = own.map(({ site }) => ({ ...site, ...targetOf(site.name, config) }));
    const counted = own.every((plan, i) => JSON.stringify(plan.config) === JSON.stringify(own[0]?.config) || i === 0);
    const parsed = methodConfig(parseAdapterConfig(method, config));
    const parts = method.parts?.(parsed);
    const ofParts = parts?.reduce((sum, part) => {
      const chosen = plans.flatMap((plan) => (plan.method === part.method ? [plan.site] : []));
      return sum + parameterCount(part.method, part.own, chosen);
    }, 0);
    if (ofParts !== undefined) {
      const rest = plans.filter((plan) => !parts?.some((part) => part.method === plan.method));
      const head = rest.flatMap((plan) => plan.parameters).reduce((sum, { shape }) => sum + size(shape), 0);
      expect(trained).toBe(ofParts + head);
      return undefined;
    }
    const formula = counted
      ? parameterCount(method, parsed, sites)
      : own.reduce((sum, { site, config }) => sum + parameterCount(method, config, [site]), 0);
    expect(trained).toBe(formula + whole);
    return undefined;
  },
};

/** Options that choose these sites: modules, or parameters of experts. */
const only = (sites: readonly Site[]): object => {
  const named = (isParameter: boolean): string[] =>
    sites.flatMap(({ kind, name }) => ((kind === "experts") === isParameter ? [name] : []));
  return { targetModules: named(false), ...(named(true).length > 0 ? { targetParameters: named(true) } : {}) };
};

const starts: Capability = {
  name: "seeded start",
  async check({ method, config, inject, start, ground, tried }) {
    expect(start(5)).toEqual(startValues(inject(), 5));
    // What all modules share depends on which modules there are.
    const isShared = method.shared || inject().parameters.some(({ spec }) => spec.tiedTo);
    if (isShared || method.wholeModel || method.parts) return undefined;
    const targets = targetsOn(ground, tried);
    const all = inject().plans.filter(({ site }) => targets.includes(site.name));
    const [last] = all.slice(-1);
    if (all.length < 2 || !last) return undefined;
    const alone = injectAdapter(ground.model, {
      method,
      config: { ...config, ...only([last.site]) } as AdapterConfigInput,
      wantedOutputs: ["logits"],
    });
    const before = start(5);
    for (const [name, values] of startValues(alone, 5)) expect(values).toEqual(before.get(name));
    return undefined;
  },
};

const merge: Capability = {
  name: "merge",
  refusal: merging,
  async check({ ground: { model }, trained, runModel, base, adapted, merged }) {
    const file = encodeModel(model);
    const adapter = trained(A);
    close(await merged(A), await adapted(A), 1e-5);
    const first = unmergeAdapter(mergeAdapter(model, adapter), adapter, model);
    const second = mergeAdapter(first, adapter);
    close(await runModel(second), await adapted(A), 1e-5);
    close(await runModel(unmergeAdapter(second, adapter, model)), await base(), 1e-5);
    expect(encodeModel(model)).toEqual(file);
    return undefined;
  },
};

const refusesNaN: Capability = {
  name: "merge without NaN",
  applies: ({ noDelta }) => noDelta === null,
  refusal: () => ({ code: "MERGE_NOT_FINITE", reason: "NaN" }),
  async check({ ground, inject, moved, trained }) {
    const adapter = trained(A);
    const values = moved(A);
    for (const { name } of inject().parameters.filter((p) => p.trainable)) {
      const tensor = adapter.tensors.get(name);
      if (tensor && values.has(name)) tensor.data[0] = Number.NaN;
    }
    mergeAdapter(ground.model, adapter);
    return undefined;
  },
};

/** The trial without modules that are trained as a whole beside the method's own. */
function unaccompanied(trial: Trial): Trial {
  const { modulesToSave, ...config } = trial.config;
  return modulesToSave && config.targetModules ? createTrial(trial.ground, { ...trial.tried, config }) : trial;
}

const unmergeAlone: Capability = {
  name: "unmerge without base",
  applies: ({ noDelta }) => noDelta === null,
  refusal(trial) {
    const { method, config, inject } = unaccompanied(trial);
    if (belongsToBase(trial)) return otherBase;
    const replaces = inject().plans.some((plan) => plan.parameters.some((p) => p.replaces !== null));
    const needs = declared(method.deltaNeedsWeight, parseAdapterConfig(method, config)) || replaces;
    return needs ? { code: "UNMERGE_NEEDS_BASE", reason: "unmerging needs the base model" } : null;
  },
  async check(trial) {
    const { ground, trained, runModel, base } = unaccompanied(trial);
    const adapter = trained(A);
    close(await runModel(unmergeAdapter(mergeAdapter(ground.model, adapter), adapter)), await base(), 1e-5);
    return undefined;
  },
};

const inOrder: Capability = {
  name: "several merged",
  refusal: (trial) => merging(trial) ?? (belongsToBase(trial) ? otherBase : null),
  async check({ ground: { model }, trained, runModel, merged, neutral }) {
    const first = mergeAdapter(model, trained(A));
    const both = mergeAdapter(first, trained(B));
    close(await runModel(unmergeAdapter(both, trained(B), first)), await merged(A), 1e-5);
    if (neutral === "base") close(await runModel(both), await merged(B), 1e-6);
    return undefined;
  },
};

const files: Capability = {
  name: "files",
  async check({ ground, tried, inject, method, trained, adapted }) {
    const own = trained(A);
    const adapter = inPeftForm(own);
    const written = toPeft(own);
    const back = fromPeft({ ...written, config: { ...written.config, some_new_field: [1, 2] } });
    expect(back.type).toBe(adapter.type);
    const read = (method.peft?.read?.(adapter).config ?? adapter.config) as AdapterConfig;
    // Modules that a method chose by itself are named in the file: peft has no defaults for most models.
    const chosen = inject().plans.flatMap(({ site, method: used }) => (used.type === method.type ? [site.name] : []));
    const targets = method.wholeModel || method.parts ? {} : { targetModules: read.targetModules ?? chosen };
    expect(back.config).toEqual({ ...read, ...targets });
    // Files name the module of experts, and the model's own parameters complete the names.
    const { tensors } = unwrappedNames(back, findSites(ground.model));
    expect(tensors).toEqual(adapter.tensors);
    if (adapter.config !== own.config) {
      // Written in another form: the same model all the same. What files leave out is made again.
      const other = createTrial(ground, { ...tried, config: back.config }, back.config);
      const values = new Map([...other.start(1)].map(([name, v]) => [name, tensors.get(name)?.data ?? v]));
      close(await other.runAdapted(values), await adapted(A), 1e-5);
      await other.close();
    }
    expect(toPeft(back).config["some_new_field"]).toEqual([1, 2]);
    return undefined;
  },
};

/** Some changes have no values that stand for none of them. */
const swapRefusal = ({ neutral }: Trial): Refusal | null =>
  neutral === "none" ? { code: "NO_NEUTRAL", reason: "" } : null;

const swapping: Capability = {
  name: "several in a session",
  refusal: swapRefusal,
  async check(trial) {
    const { ground, method, config, trained } = trial;
    const swappable = makeSwappable(ground.model, { method, config, wantedOutputs: ["logits"] });
    const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
    const run = async (feeds: Feeds): Promise<Float32Array> =>
      (await session.run({ ...trial.feeds, ...feeds }, ["logits"]))["logits"]?.data as Float32Array;
    const base = await trial.base();
    const isBase = (found: Float32Array): void =>
      trial.identity === "rounded" || trial.feedsKernels ? close(found, base, 1e-6) : expect(found).toEqual(base);
    isBase(await run(adapterFeeds(swappable, null)));
    const set = createAdapterSet(swappable);
    const expected = { a: await trial.adapted(A), b: await trial.adapted(B) };
    set.add("a", trained(A));
    set.add("b", trained(B));
    close(await run(set.feeds()), expected.a, 1e-5);
    set.setActive("b");
    close(await run(set.feeds()), expected.b, 1e-5);
    close(await run(set.feeds("a")), expected.a, 1e-5);
    set.disable();
    expect(set.active).toBeNull();
    isBase(await run(set.feeds()));
    set.enable();
    set.delete("b");
    expect([set.names, set.active]).toEqual([["a"], null]);
    expect(() => set.setActive("b")).toThrow(expect.objectContaining({ code: "UNKNOWN_ADAPTER" }));
    await session.close();
    return undefined;
  },
};

/** A configuration with tensors of the same shapes that computes something else, or null. */
function anotherConfig({ method, config }: Trial): AdapterConfigInput | null {
  const parsed = parseAdapterConfig(method, config) as Readonly<Record<string, unknown>>;
  const fields = ["alpha", "scaling", "scale", "graloraAlpha", "deloraLambda", "dropout"];
  const field = fields.find((name) => typeof parsed[name] === "number");
  return field ? { ...config, [field]: field === "dropout" ? 0.25 : (parsed[field] as number) + 1 } : null;
}

const configurations: Capability = {
  name: "configurations in a session",
  applies: (trial) => anotherConfig(trial) !== null,
  refusal(trial) {
    const serves = trial.method.swap || trial.inject().plans.every(isReplacement);
    return swapRefusal(trial) ?? (serves ? null : { code: "ADAPTER_CONFIG", reason: "the model serves" });
  },
  async check(trial) {
    const { ground, method } = trial;
    const swappable = makeSwappable(ground.model, { method, config: trial.config, wantedOutputs: ["logits"] });
    const other = createTrial(ground, { ...trial.tried, config: anotherConfig(trial) ?? {} });
    const feeds = { ...trial.feeds, ...adapterFeeds(swappable, other.trained(A)) };
    close(await trial.runModel(swappable.model, feeds), await other.adapted(A), 1e-5);
    await other.close();
    return undefined;
  },
};

const mixedBatch: Capability = {
  name: "mixed batch",
  refusal({ method, config, inject }) {
    const sites = inject().plans.map(({ site }) => site);
    const reason = whyNoMixedBatch(method, parseAdapterConfig(method, config), sites);
    return reason === null ? null : { code: "ROWS_UNSUPPORTED", reason };
  },
  async check(trial) {
    await checkMixedBatch(trial, [A, B]);
    return undefined;
  },
};

const packedGrounds = new WeakMap<Ground, Ground>();

function inEightBits(ground: Ground): Ground {
  const known = packedGrounds.get(ground) ?? { ...ground, model: quantizeModel(ground.model, { type: "int8" }).model };
  packedGrounds.set(ground, known);
  return known;
}

const packedBase: Capability = {
  name: "8-bit base",
  applies: ({ ground }) => ground.name === "MLP" || ground.name === "transformer block",
  async check({ ground, tried, noDelta, identity: promised }) {
    const packed = createTrial(inEightBits(ground), tried);
    const base = await packed.base();
    if (promised) close(await packed.runAdapted(packed.start(1)), base, 1e-5);
    differ(await packed.adapted(A), base);
    if (noDelta === null) close(await packed.merged(A), await packed.adapted(A), 1e-5);
    await packed.close();
    return undefined;
  },
};

const gradients: Capability = {
  name: "gradients",
  async check(trial) {
    await checkGradients(trial);
    return undefined;
  },
};

const conversion: Capability = {
  name: "to LoRA",
  refusal: (trial) => merging(trial) ?? conversionRefusal(trial),
  check: checkConversion,
};

export const capabilities: readonly Capability[] = [
  ...[identity, parameters, starts, gradients],
  ...[merge, refusesNaN, unmergeAlone, inOrder, conversion],
  ...[files, swapping, configurations, mixedBatch, packedBase],
];
