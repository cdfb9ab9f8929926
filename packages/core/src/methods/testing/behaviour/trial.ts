import { expect } from "vitest";
import { type Adapter, adapterOf } from "../../../adapters/adapter.ts";
import { type AdaptedGraph, injectAdapter, innerName } from "../../../adapters/inject.ts";
import { mergeAdapter } from "../../../adapters/merge.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "../../../adapters/select.ts";
import type { Site } from "../../../adapters/site.ts";
import { findSites } from "../../../adapters/sites.ts";
import { withBlocks } from "../../../adapters/with-blocks.ts";
import type { Model, Value } from "../../../onnx/ir.ts";
import { encodeModel } from "../../../onnx/write.ts";
import { onnxruntimeNode } from "../../../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../../../runtime/runtime.ts";
import { testRandom } from "../../../testing/check-gradient.ts";
import { openBuilder } from "../../../testing/run-graph.ts";
import { declared, type Method, whyNoDelta } from "../../method.ts";
import { methodOf } from "../../registry.ts";
import type { TriedConfig } from "../configs/tried-config.ts";
import type { Ground } from "../grounds.ts";
import { rowFeeds } from "../row-feeds.ts";
import { startValues } from "../start-values.ts";

/** Values of an adapter's tensors by name. */
export type Values = ReadonlyMap<string, Float32Array>;

/** One configuration of a method on one ground. */
export interface Trial {
  readonly ground: Ground;
  readonly tried: TriedConfig;
  readonly method: Method;
  readonly config: AdapterConfigInput;
  /** The ground's batch of two, with what the method reads for every row. */
  readonly feeds: Feeds;
  /** Other batches, with the same. */
  batch(rows: number): Feeds;
  /** What the method says of a new adapter; "rounded" where it says true and a convolution's kernel is fed or computed. */
  readonly identity: boolean | "rounded";
  /** A convolution computes with a kernel that is fed or computed, and not with the frozen one. */
  readonly feedsKernels: boolean;
  /** The model with a new adapter; made anew on every call, for it is under construction. */
  inject(model?: Model): AdaptedGraph;
  start(seed: number): Values;
  /** Start values moved at random: what training does. */
  moved(seed: number): Values;
  trained(seed: number): Adapter;
  /** Why its adapters cannot be written as new weights, or null when they can. */
  readonly noDelta: string | null;
  /** Values that stand for no adapter. */
  readonly neutral: string | false;
  /** Logits of the model with an adapter in it. */
  runAdapted(values: Values, batch?: Feeds): Promise<Float32Array>;
  /** Logits with the adapter `trained(seed)` in the graph, computed once. */
  adapted(seed: number): Promise<Float32Array>;
  /** Logits with the adapter `trained(seed)` merged, computed once. */
  merged(seed: number): Promise<Float32Array>;
  runModel(model: Model, feeds?: Feeds): Promise<Float32Array>;
  /** Logits of the ground as it is. */
  base(): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Computes every entry once. */
function once<K, V>(make: (key: K) => V): (key: K) => V {
  const made = new Map<K, V>();
  return (key) => {
    const known = made.get(key);
    if (known !== undefined) return known;
    const value = make(key);
    made.set(key, value);
    return value;
  };
}

/** Why a method does not adapt a module under a configuration, or null. */
function reasonAgainst(site: Site, ground: Ground, { type, config: given, elsewhere }: TriedConfig): string | null {
  const method = methodOf(type);
  const config = { ...given, ...elsewhere?.[ground.name] };
  if (!method.kinds.includes(site.kind)) return `${type} adapts ${method.kinds.join(" and ")}`;
  return site.refusal ?? method.refuses?.(site, parseAdapterConfig(method, config)) ?? null;
}

/** The modules of a ground without the classifier, and the blocks and sequences that a method asks for. */
export const modulesOf = ({ model }: Ground, { type }: TriedConfig): Site[] =>
  withBlocks(model, findSites(model), methodOf(type)).filter(({ name }) => name !== "classifier");

/** Those that a configuration is tried on: all that it does not refuse. */
export const targetsOn = (ground: Ground, tried: TriedConfig): string[] =>
  modulesOf(ground, tried).flatMap((site) => (reasonAgainst(site, ground, tried) === null ? [site.name] : []));

/** Why there are none. */
export const reasonOn = (ground: Ground, tried: TriedConfig): string =>
  modulesOf(ground, tried).flatMap((site) => reasonAgainst(site, ground, tried) ?? [])[0] ?? "";

/**
 * The configuration as it is tried on a ground: as written on the transformer block, with the ground's modules elsewhere. Methods that choose
 * their modules themselves do so everywhere.
 */
export function configOn(ground: Ground, tried: TriedConfig): AdapterConfigInput {
  const { config } = tried;
  if (ground.name === "transformer block") return config;
  if (config.targetModules === undefined) return { ...config, ...tried.elsewhere?.[ground.name] };
  const targets = targetsOn(ground, tried);
  const chosen =
    ground.name === "experts" ? { targetModules: [], targetParameters: targets } : { targetModules: targets };
  return { ...config, ...chosen, ...tried.elsewhere?.[ground.name] };
}

export const feedsOf = (adapted: AdaptedGraph, values: Values): Record<string, RuntimeTensor> =>
  Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32", dims: shape, data: values.get(name) as Float32Array } as const,
    ]),
  );

function movedFrom(adapted: AdaptedGraph, seed: number, noise: number): Map<string, Float32Array> {
  const random = testRandom(seed);
  const trainable = new Set(adapted.parameters.filter((p) => p.trainable && p.spec.saved !== false).map((p) => p.name));
  return new Map(
    [...startValues(adapted, seed)].map(([name, v]) => [
      name,
      trainable.has(name) ? v.map((x) => x + noise * (random() * 2 - 1)) : v,
    ]),
  );
}

export function createTrial(ground: Ground, tried: TriedConfig, config = configOn(ground, tried)): Trial {
  const method = methodOf(tried.type);
  const inject = (model = ground.model): AdaptedGraph =>
    injectAdapter(model, { method, config, wantedOutputs: ["logits"] });
  const template = once((_: "adapted") => inject());
  const adapted = (): AdaptedGraph => template("adapted");
  // ONNX Runtime lays constant kernels out in blocks, and computes with fed or computed ones as they are.
  const feedsKernels = once((_: "convolutions") => {
    const read = new Set(adapted().g.nodes.flatMap((node) => node.inputs));
    const convolutions = adapted().plans.flatMap(({ site }) => (site.kind === "conv" ? site.uses : []));
    return convolutions.some(({ output }) => !read.has(innerName(output)));
  });
  const parsed = parseAdapterConfig(method, config);
  const promised = declared(method.identityAtStart, parsed);
  const fed: Feeds = { ...ground.feeds, ...rowFeeds(tried, 2) };
  const runModel = (model: Model, feeds?: Feeds): Promise<Float32Array> => runOn(ground, model, feeds);
  const moved = (seed: number): Values => movedFrom(adapted(), seed, tried.noise ?? 0.3);
  const session = once(async (_: "session") => {
    const { g, outputs } = inject();
    g.output(outputs.get("logits") as Value, "logits");
    return openBuilder(g);
  });
  const runAdapted = async (values: Values, batch = fed): Promise<Float32Array> => {
    const { run, inputNames } = await session("session");
    const feeds: Feeds = { ...batch, ...feedsOf(adapted(), values) };
    const { logits } = await run(Object.fromEntries(inputNames.map((name) => [name, feeds[name] as RuntimeTensor])));
    return Float32Array.from(logits?.data as Float32Array);
  };
  const trained = (seed: number): Adapter => adapterOf(adapted(), new Map(moved(seed)));
  return {
    ground,
    tried,
    method,
    config,
    feeds: fed,
    batch: (rows) => ({ ...ground.batch(rows), ...rowFeeds(tried, rows) }),
    get identity() {
      return promised === true && feedsKernels("convolutions") ? "rounded" : promised;
    },
    get feedsKernels() {
      return feedsKernels("convolutions");
    },
    noDelta: whyNoDelta(method, parsed),
    neutral: declared(method.neutral, parsed),
    inject,
    start: (seed) => startValues(adapted(), seed),
    moved,
    trained,
    runAdapted,
    adapted: once((seed: number) => runAdapted(moved(seed))),
    merged: once((seed: number) => runModel(mergeAdapter(ground.model, trained(seed)))),
    runModel,
    base: () => baseLogits(ground),
    async close() {
      await (await session("session")).close();
    },
  };
}

const bases = new WeakMap<Ground, Promise<Float32Array>>();

function baseLogits(ground: Ground): Promise<Float32Array> {
  const known = bases.get(ground) ?? runOn(ground, ground.model);
  bases.set(ground, known);
  return known;
}

async function runOn(ground: Ground, model: Model, feeds: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { logits } = await session.run({ ...ground.feeds, ...feeds }, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
}

/** Largest difference over the largest value. */
export function close(a: Float32Array, b: Float32Array, tolerance: number): void {
  const scale = Math.max(...a.map(Math.abs));
  const worst = a.reduce((w, v, i) => Math.max(w, Math.abs(v - (b[i] as number))), 0);
  expect(a.length).toBe(b.length);
  expect(worst / scale).toBeLessThan(tolerance);
}

export function differ(a: Float32Array, b: Float32Array): void {
  expect(a.reduce((w, v, i) => Math.max(w, Math.abs(v - (b[i] as number))), 0)).toBeGreaterThan(1e-3);
}
