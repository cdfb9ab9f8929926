import type { AdaptedGraph } from "../../adapters/inject.ts";
import type { Naming } from "../../adapters/naming.ts";
import {
  type AdapterConfig,
  type AdapterConfigInput,
  methodConfig,
  parseAdapterConfig,
} from "../../adapters/select.ts";
import { PeftError } from "../../errors.ts";
import type { LossParts } from "../../losses/loss-parts.ts";
import type { Calibration, DataNeed, SiteData } from "../../methods/calibration.ts";
import type { Method } from "../../methods/method.ts";
import type { Model } from "../../onnx/ir.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import type { FeedBatches } from "../feed-batches.ts";
import type { ForwardRunOptions } from "../forward-runs.ts";
import { collectComponents } from "./collect-components.ts";
import { collectGradients, collectInputMatrices, groupsOf, type Wanted } from "./collect-matrices.ts";
import { createStarter } from "./create-starter.ts";
import { type ProbedGraph, type ProbedSite, probeSites } from "./probe-sites.ts";
import { readStart, writeStart } from "./start-file.ts";

/** Progress of {@link calibrateStart}. */
export interface CalibrationEvent {
  readonly type: "calibration";
  readonly step: 0;
  /** Batches that were run so far; some are run more than once. */
  readonly batches: number;
  /** Modules whose start is made from data, and those that have theirs. */
  readonly modules: number;
  readonly ready: number;
}

/** What {@link calibrateStart} needs to know. */
export interface CalibrateStartOptions<C extends object = object>
  extends Pick<ForwardRunOptions, "isolation" | "threads" | "device" | "signal"> {
  readonly method: Method<C>;
  readonly config: AdapterConfigInput<C>;
  /** Read once, or several times: for components until they are found, for matrices once per group of modules. */
  readonly batches: FeedBatches;
  /** The loss of a batch, for starts that ask for gradients. */
  readonly loss?: (adapted: AdaptedGraph) => LossParts;
  /** The model that `model` was quantised from: data is collected on it. Default `model`. */
  readonly original?: Model;
  /** Rows that count for components: one entry per row of the model's input. Default the feed `attention_mask`. */
  readonly rowMask?: (feeds: Feeds) => ArrayLike<number | bigint> | null;
  /** Names random choices of a start. Default 42. */
  readonly seed?: number | string;
  readonly wantedOutputs?: readonly string[];
  readonly naming?: Naming;
  /** Bytes of matrices that one batch may give: modules are done in groups. Default 256 MiB. */
  readonly maxBytes?: number;
  /** Batches after which components that still turn are an error. Default 1000. */
  readonly maxBatches?: number;
  /** Where the start is kept: found there it is read, and no batch is run. */
  readonly folder?: string;
  readonly onEvent?: (event: CalibrationEvent) => void;
}

/** A start made from data. Plain data. */
export interface CalibratedStart<C extends object = object> {
  /** The options with what the data decided: ranks of modules, modules left out. */
  readonly config: AdapterConfig<C>;
  /** Start values of the adapter's tensors at the modules that have one, for `initialParameters`. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

const MAX_BYTES = 2 ** 28;
const MAX_BATCHES = 1000;

/** Whether new adapters of a method with these options start from data: then {@link calibrateStart} has to make the start. */
export function startNeedsData<C extends object>(method: Method<C>, config: AdapterConfigInput<C>): boolean {
  return (method.calibration?.needs(methodConfig(parseAdapterConfig(method, config))) ?? null) !== null;
}

/**
 * Makes the start of an adapter from data: LoRA's "eva", "lora_ga" and "corda", QWHA's "quantization". Batches are run through the frozen model in a
 * process of its own, what a start asks for is collected at every module, and the method makes its start values of it. The same batches and
 * seed give the same start. Nothing of the data has to be there when the adapter is trained, resumed or read.
 *
 * Memory: one batch's rows at all modules for "eva", else the matrices of one group of modules ({@link CalibrateStartOptions.maxBytes}).
 * @throws PeftError NO_DATA, START_WITHOUT_DATA when the options ask for none, CONFIG_INVALID when the loss is missing, COMPONENTS_NOT_FOUND,
 *   RESUME_MISMATCH when the folder holds another start, those of `injectAdapter`; the signal's reason when it was aborted
 * @example
 * const config = { r: 8, initLoraWeights: "eva", targetModules: ["query", "value"] } as const;
 * const start = await calibrateStart(model, { method: lora, config, batches });
 * const adapted = injectAdapter(model, { method: lora, config: start.config, training: true });
 * const values = initialParameters(adapted, 42, start.values);
 */
export async function calibrateStart<C extends object>(
  model: Model,
  run: CalibrateStartOptions<C>,
): Promise<CalibratedStart<C>> {
  const { method, seed = 42, folder } = run;
  const config = parseAdapterConfig(method, run.config);
  const { calibration } = method;
  if (!calibration || !startNeedsData(method, run.config)) {
    throw new PeftError("START_WITHOUT_DATA", `The start of ${method.type} with these options needs no data.`, {
      hint: 'For example initLoraWeights: "eva"; without one of those initialParameters makes the start.',
    });
  }
  const key = { type: method.type, seed, config: { ...config } };
  const known = folder === undefined ? null : await readStart(folder, key);
  if (known) return { config: parseAdapterConfig(method, known.config as AdapterConfigInput<C>), values: known.values };
  const start = await collect(model, run, calibration);
  if (folder !== undefined) await writeStart(folder, key, start);
  return start;
}

async function collect<C extends object>(
  model: Model,
  run: CalibrateStartOptions<C>,
  calibration: Calibration<C>,
): Promise<CalibratedStart<C>> {
  const { method, naming, wantedOutputs } = run;
  const config = parseAdapterConfig(method, run.config);
  const probe = (): ProbedGraph => {
    const choice = { ...(naming ? { naming } : {}), ...(wantedOutputs ? { wantedOutputs } : {}) };
    return probeSites(run.original ?? model, { method, config: run.config, ...choice });
  };
  const graph = probe();
  const needOf = ({ plan }: ProbedSite): DataNeed | null =>
    plan.site.kind === "linear" ? calibration.needs(plan.config as C) : null;
  const wanted = graph.sites.flatMap((probed): Wanted[] => {
    const need = needOf(probed);
    return need ? [{ probed, need }] : [];
  });
  const progress = { batches: 0, ready: 0 };
  const report = (): void => run.onEvent?.({ type: "calibration", step: 0, modules: wanted.length, ...progress });
  const { isolation, threads, device, signal } = run;
  const options: ForwardRunOptions = {
    ...(isolation === undefined ? {} : { isolation }),
    ...(threads === undefined ? {} : { threads }),
    ...(device === undefined ? {} : { device }),
    ...(signal === undefined ? {} : { signal }),
    onBatch() {
      progress.batches++;
      report();
    },
  };
  const start = createStarter(model, run);
  const components = wanted.flatMap(({ probed, need }) => (need.kind === "components" ? [{ probed, need }] : []));
  if (components.length > 0) {
    const found = await collectComponents({
      ...{ graph, wanted: components, options, batches: run.batches },
      rowMask: run.rowMask ?? attentionMask,
      used: (sites) => calibration.used?.(sites as never) ?? sites.map(({ components: c }) => c.explained.length),
      maxBatches: run.maxBatches ?? MAX_BATCHES,
    });
    const others = graph.sites
      .filter(({ plan }) => !found.some(({ site }) => site.name === plan.site.name))
      .map(({ plan }) => ({ site: plan.site, config: plan.config as C }));
    const changes = calibration.settle?.(methodConfig(config), found as never, others) ?? {};
    const { targetModules: kept } = changes;
    const left = Array.isArray(kept) ? found.filter(({ site }) => kept.includes(site.name)) : found;
    const final = parseAdapterConfig(method, { ...config, ...changes } as AdapterConfigInput<C>);
    const values = start(new Map(left.map(({ site, components: c }) => [site.name, { components: c }])), final);
    progress.ready = wanted.length;
    report();
    return { config: final, values };
  }
  const values = new Map<string, Float32Array>();
  for (const [k, group] of groupsOf(wanted, run.maxBytes ?? MAX_BYTES).entries()) {
    const fresh = k === 0 ? graph : probe();
    const names = new Set(group.map(({ probed }) => probed.plan.site.name));
    const own = fresh.sites.filter(({ plan }) => names.has(plan.site.name));
    const data = await matricesOf(fresh, own, group, run, options);
    for (const [name, tensor] of start(data, config)) values.set(name, tensor);
    progress.ready += group.length;
    report();
  }
  return { config, values };
}

const attentionMask = (feeds: Feeds): ArrayLike<number | bigint> | null => feeds["attention_mask"]?.data ?? null;

async function matricesOf<C extends object>(
  graph: ProbedGraph,
  sites: readonly ProbedSite[],
  group: readonly Wanted[],
  run: CalibrateStartOptions<C>,
  options: ForwardRunOptions,
): Promise<ReadonlyMap<string, SiteData>> {
  const [first] = group;
  const kind = first?.need.kind;
  if (kind === "gram" || kind === "covariance") return collectInputMatrices(graph, sites, kind, run.batches, options);
  if (!run.loss) {
    throw new PeftError("CONFIG_INVALID", "expected `loss` for a start from gradients, received none.", {
      hint: "Give what builds the loss of a batch: (adapted) => crossEntropy(adapted.g, { logits, labels }).",
    });
  }
  const ranks = new Map(
    group.map(({ probed, need }) => [probed.plan.site.name, need.kind === "gradient" ? need.rank : 0]),
  );
  const rank = ({ plan }: ProbedSite): number => ranks.get(plan.site.name) ?? 0;
  return collectGradients(graph, sites, run.loss(graph.adapted), rank, run.batches, options);
}
