import { PeftError } from "../errors.ts";
import { leadingFactors, lowRankSvd } from "../linalg/low-rank.ts";
import { type Matrix, matrix, multiply, subtract, transpose } from "../linalg/matrix.ts";
import { type Svd, svd } from "../linalg/svd.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { full } from "../methods/full.ts";
import { lora } from "../methods/lora.ts";
import { type AdapterTensor, type FrozenSite, type SiteDelta, whyNoDelta } from "../methods/method.ts";
import type { Model } from "../onnx/ir.ts";
import { type AdaptedSite, type Adapter, adaptedSites } from "./adapter.ts";
import { type LoraFactors, loraFromFactors, tensorOf } from "./lora-from-factors.ts";
import { frozenSite } from "./operands.ts";
import { parameterName } from "./parameters.ts";
import { requireDelta } from "./require-delta.ts";
import type { Site } from "./site.ts";
import { findSites } from "./sites.ts";
import { savedSites } from "./targets.ts";

/** How large the LoRA factors become. */
export type LoraSize =
  /** One rank for all modules, at most the smaller width of each. */
  | { readonly rank: number }
  /** At each module the smallest rank that keeps this share of the squared Frobenius norm of its change; in (0, 1]. */
  | { readonly explainedVariance: number };

export interface ConvertedSite {
  readonly site: string;
  readonly rank: number;
  /** ‖ΔW - B·A‖ / ‖ΔW‖ in the Frobenius norm, factors rounded to float32; 0 where nothing changes. */
  readonly error: number;
}

export interface LoraConversion {
  readonly adapter: Adapter;
  readonly sites: readonly ConvertedSite[];
  /** The same ratio over all converted modules together. */
  readonly error: number;
}

/**
 * A plain LoRA adapter in the place of another one: at every linear module the best approximation of the change of its weight
 * (Eckart and Young 1936), with the error that it makes. Modules saved as a whole stay as they are. The result is served,
 * combined and read by `peft` like any LoRA adapter; unlike OFT or IA3 it does not follow another base model.
 * Cost: one SVD of [out, in] per module, some 12 n³ operations for n x n; some 430 n² where the change is of rank 64 or less.
 *
 * @param model the base model that the adapter was trained on; it is not changed.
 * @throws PeftError LORA_SIZE for sizes out of range; NO_DELTA; NOT_LORA naming every module whose change LoRA cannot express (biases,
 *   norms, embeddings, convolutions) and why; ADAPTER_MISMATCH; MERGE_NOT_FINITE
 * @example
 * const { adapter: asLora, error } = convertToLora(model, adapter, { explainedVariance: 0.99 });
 */
export function convertToLora(model: Model, adapter: Adapter, size: LoraSize): LoraConversion {
  checkSize(size);
  requireDelta(adapter, "converted");
  const { graph } = prepareModel(model);
  const sites = findSites({ ...model, graph });
  const saved = new Set(adapter.type === full.type ? savedSites(sites, adapter.config) : []);
  const isSaved = ({ method, site }: AdaptedSite): boolean =>
    method.type === full.type && (adapter.type !== full.type || saved.has(site));
  const plans = adaptedSites(graph, sites, adapter);
  const changes = plans.filter((plan) => !isSaved(plan)).map((plan) => changeOf(plan, frozenSite(graph, plan.site)));
  const problems = changes.flatMap((change) => ("refused" in change ? [change.refused] : []));
  if (problems.length > 0) throw notLora(adapter.type, problems);

  const converted = changes.flatMap((change) => ("matrix" in change ? [convertSite(change, size)] : []));
  const { taskType, modulesToSave, baseModelNameOrPath } = adapter.config;
  const fields = {
    ...(taskType ? { taskType } : {}),
    ...(modulesToSave ? { modulesToSave } : {}),
    ...(baseModelNameOrPath ? { baseModelNameOrPath } : {}),
  };
  return {
    adapter: loraFromFactors(converted, fields, savedTensors(plans.filter(isSaved))),
    sites: converted.map(({ site, rank, lost, total }) => ({ site, rank, error: ratio(lost, total) })),
    error: ratio(sum(converted.map((c) => c.lost)), sum(converted.map((c) => c.total))),
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const squares = ({ data }: Matrix): number => data.reduce((total, v) => total + v * v, 0);
const ratio = (lost: number, total: number): number => (total === 0 ? 0 : Math.sqrt(lost / total));

function checkSize(size: LoraSize): void {
  const isValid =
    "rank" in size
      ? Number.isInteger(size.rank) && size.rank >= 1 && size.rank <= 65_536
      : size.explainedVariance > 0 && size.explainedVariance <= 1;
  if (isValid) return;
  throw new PeftError(
    "LORA_SIZE",
    `Expected a whole rank in [1, 65536] or an explained variance in (0, 1], received ${JSON.stringify(size)}.`,
  );
}

const notLora = (type: string, problems: readonly string[]): PeftError => {
  const more = problems.length > 8 ? `; and ${problems.length - 8} more` : "";
  return new PeftError(
    "NOT_LORA",
    `The ${type} adapter cannot become a LoRA adapter: ${problems.slice(0, 8).join("; ")}${more}.`,
    {
      hint: "LoRA changes weights of linear modules; merge the adapter into the model instead.",
      details: { problems },
    },
  );
};

/** Change [out, in] of a linear module's weight, or why there is none of that kind. */
type Change = { readonly site: Site; readonly matrix: Matrix } | { readonly refused: string };

function changeOf({ site, method, config, tensors }: AdaptedSite, frozen: FrozenSite): Change {
  const reason = whyNoDelta(method, config);
  if (!method.delta || reason !== null) {
    throw new PeftError("NO_DELTA", `${method.type} cannot be converted: ${reason}.`);
  }
  if (site.kind !== "linear") return { refused: `"${site.name}" is of kind ${site.kind}` };
  const delta = method.delta(tensors, config, site, frozen);
  if (added(delta, "bias", frozen)?.some((v) => v !== 0)) return { refused: `the bias of "${site.name}" changes` };
  const [rows = 0, columns = 0] = site.weightShape;
  const stored = matrix(rows, columns, added(delta, "weight", frozen));
  const bad = stored.data.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) {
    throw new PeftError("MERGE_NOT_FINITE", `The change of "${site.name}" is ${stored.data[bad]} at ${bad}.`);
  }
  return { site, matrix: site.fanInFanOut ? transpose(stored) : stored };
}

/** What is added to an operand; of one that is replaced, the difference. */
function added(delta: SiteDelta, which: "weight" | "bias", frozen: FrozenSite): Float64Array | undefined {
  const change = delta[which];
  if (!change) return undefined;
  if ("add" in change) return Float64Array.from(change.add);
  const before = frozen[which]();
  return Float64Array.from(change.replace, (v, i) => v - (before[i] as number));
}

/**
 * The smallest rank that explains the share. What float32 rounding leaves of a change of lower rank does not count: singular
 * values below max(out, in)·2^-23 of the largest.
 */
function rankFor({ s, u, vt }: Svd, share: number): number {
  const noise = (s[0] ?? 0) * Math.max(u.rows, vt.columns) * 2 ** -23;
  const kept = s.filter((v) => v > noise).map((v) => v * v);
  const wanted = share * sum([...kept]);
  let explained = 0;
  const last = kept.findIndex((v) => {
    explained += v;
    return explained >= wanted;
  });
  return Math.max(1, last + 1);
}

/** Up to this rank a change is taken for one of low rank, which most methods make. */
const LOW_RANK = 64;

/** Singular values and vectors, `rank` of them at least: by a sketch where that is cheaper and exact up to float32 rounding. */
function decompose(change: Matrix, rank: number): Svd {
  const most = Math.max(rank, LOW_RANK);
  const isWorthIt = 4 * most <= Math.min(change.rows, change.columns);
  return (isWorthIt ? lowRankSvd(change, most, 2 ** -22) : null) ?? svd(change);
}

interface Converted extends LoraFactors {
  /** Squared Frobenius norms of what is left out and of the change. */
  readonly lost: number;
  readonly total: number;
}

function convertSite(
  { site, matrix: change }: { readonly site: Site; readonly matrix: Matrix },
  size: LoraSize,
): Converted {
  const decomposed = decompose(change, "rank" in size ? size.rank : 0);
  const widest = Math.min(change.rows, change.columns);
  const rank = "rank" in size ? Math.min(size.rank, widest) : rankFor(decomposed, size.explainedVariance);
  const { left, right } = leadingFactors(decomposed, rank);
  const [B, A] = [tensorOf(left), tensorOf(right)];
  const made = multiply(matrix(left.rows, rank, B.data), matrix(rank, right.columns, A.data));
  return {
    site: site.name,
    rank,
    tensors: new Map([
      [parameterName(lora, site.name, "A"), A],
      [parameterName(lora, site.name, "B"), B],
    ]),
    lost: squares(subtract(change, made)),
    total: squares(change),
  };
}

/** Tensors of modules that are saved as a whole, under their names. */
const savedTensors = (plans: readonly AdaptedSite[]): Map<string, AdapterTensor> =>
  new Map(
    plans.flatMap(({ parameters, tensors }) =>
      parameters.flatMap(({ name, role }) => {
        const tensor = tensors[role];
        return tensor ? [[name, tensor] as const] : [];
      }),
    ),
  );
