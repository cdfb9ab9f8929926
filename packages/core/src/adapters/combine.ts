import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { leadingFactors, productSvd } from "../linalg/low-rank.ts";
import { type Matrix, matrix, multiply, scale, transpose } from "../linalg/matrix.ts";
import { type Svd, svd } from "../linalg/svd.ts";
import { streamSeed } from "../random/random.ts";
import type { Adapter } from "./adapter.ts";
import { type LoraFactors, loraFromFactors, tensorOf } from "./lora-from-factors.ts";
import { commonFields, type LoraModule, loraModules, savedOnce } from "./lora-modules.ts";
import { type Arithmetic, type ArithmeticOptions, arithmetic, arithmetics } from "./task-arithmetic.ts";

const onProducts = ["svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"] as const;

/**
 * How adapters become one, in the words of `peft`'s `add_weighted_adapter`:
 * - `cat`: the factors side by side. Exact; the ranks add up.
 * - `svd`: the best approximation of the exact sum with a given rank.
 * - `linear`: weighted sums of the A and of the B. Their product holds mixed terms as well: rough. Ranks must be equal.
 * - `ties`, `dare_linear`, `dare_ties`, `magnitude_prune`: entries are trimmed, dropped or elected before such sums. Ranks must be equal.
 * - the same with `_svd`: on the products B·A in the place of the factors, then the best approximation with a given rank.
 */
export type Combination = "cat" | Arithmetic | (typeof onProducts)[number];

export interface CombineOptions {
  /** Default "svd", as in peft. */
  readonly combination?: Combination;
  /** Rank with "svd" and "..._svd", at most that of the exact result. Default: the largest of the adapters' ranks there. */
  readonly rank?: number;
  /** Share of the entries that "ties", "dare_..." and "magnitude_prune" keep, in (0, 1]. They need it. */
  readonly density?: number;
  /** How the sign of an entry is elected: by the sum of its values (default) or by counting. */
  readonly majoritySign?: "total" | "frequency";
  /** Seed of what "dare_..." drops. Default 0. */
  readonly seed?: number | string;
}

export interface WeightedAdapter {
  readonly adapter: Adapter;
  /** May be negative: the adapter's effect is subtracted. */
  readonly weight: number;
}

/**
 * One LoRA adapter out of several of one base model: the sum of weight·scale·B·A over the adapters, exactly or as `combination` says.
 * A module that some adapters lack is combined from the others; a module saved as a whole is kept where one adapter has it.
 * Cost: "cat" and "linear" none to speak of; "svd" works on the factors, (in + out)·r² per module; "..._svd" decomposes
 * [out, in] per module.
 *
 * @throws PeftError COMBINE for options and weights out of range, and for ranks and shapes that differ; NOT_LORA; COMBINE_SAVED
 * @example
 * const both = combineAdapters([{ adapter: a, weight: 0.7 }, { adapter: b, weight: 0.3 }], { combination: "cat" });
 */
export function combineAdapters(parts: readonly WeightedAdapter[], options: CombineOptions = {}): Adapter {
  const { combination = "svd" } = options;
  checkOptions(parts, combination, options);
  const read = parts.map(({ adapter }) => loraModules(adapter));
  const sites = [...new Set(read.flatMap(({ modules }) => [...modules.keys()]))];
  const problems: string[] = [];
  const combined = sites.flatMap((site): LoraFactors[] => {
    const weighted = read.flatMap(({ modules }, i) => {
      const module = modules.get(site);
      return module ? [{ ...module, number: i, weight: parts[i]?.weight ?? 0 }] : [];
    });
    const problem = mismatch(weighted, combination);
    if (problem !== null) problems.push(`"${site}": ${problem}`);
    return problem === null ? [combineSite(site, weighted, combination, options)] : [];
  });
  if (problems.length > 0) {
    throw new PeftError("COMBINE", `The adapters do not go together: ${problems.slice(0, 8).join("; ")}.`, {
      hint: 'Adapters of one base model have equal shapes; where ranks differ, "cat" and "svd" combine them.',
      details: { problems },
    });
  }
  return loraFromFactors(
    combined,
    commonFields(parts.map(({ adapter }) => adapter)),
    savedOnce(read.map(({ saved }) => saved)),
  );
}

const isOneOf = <T extends string>(known: readonly T[], name: string): name is T => known.some((own) => own === name);

function checkOptions(
  parts: readonly WeightedAdapter[],
  combination: string,
  { rank, density, seed }: CombineOptions,
): void {
  const known = ["cat", ...arithmetics, ...onProducts];
  const problems: string[] = [];
  if (!known.includes(combination)) {
    const near = nearestName(combination, known) ?? known.join(", ");
    problems.push(`no combination is called "${combination}" (did you mean ${near}?)`);
  }
  if (parts.length === 0) problems.push("there are no adapters");
  for (const { weight } of parts) if (!Number.isFinite(weight)) problems.push(`a weight is ${weight}`);
  const prunes = /ties|dare|prune/.test(combination);
  if (prunes && !(density !== undefined && density > 0 && density <= 1)) {
    problems.push(`"${combination}" needs a density in (0, 1], received ${density}`);
  }
  if (!prunes && density !== undefined) problems.push(`"${combination}" takes no density`);
  if (seed !== undefined && !combination.startsWith("dare")) problems.push(`"${combination}" takes no seed`);
  if (rank !== undefined && !combination.endsWith("svd")) problems.push(`"${combination}" takes no rank`);
  if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1)) problems.push(`the rank is ${rank}`);
  if (problems.length > 0) throw new PeftError("COMBINE", `Adapters cannot be combined so: ${problems.join("; ")}.`);
}

interface WeightedModule extends LoraModule {
  /** Which adapter it is of. */
  readonly number: number;
  /** The adapter's. */
  readonly weight: number;
}

function mismatch(modules: readonly WeightedModule[], combination: Combination): string | null {
  const distinct = (values: readonly string[]): string[] => [...new Set(values)];
  const shapes = distinct(modules.map(({ names, tails, B }) => `${names[0]} ${tails[0].join("x")} to ${B.rows}`));
  if (shapes.length > 1) return `shapes ${shapes.join(" and ")}`;
  const ranks = distinct(modules.map(({ A }) => String(A.rows)));
  return isOneOf(arithmetics, combination) && ranks.length > 1 ? `ranks ${ranks.join(" and ")}` : null;
}

function combineSite(
  site: string,
  modules: readonly WeightedModule[],
  combination: Combination,
  options: CombineOptions,
): LoraFactors {
  const { left, right } = combinedFactors(site, modules, combination, options);
  const [{ names, tails }] = modules as readonly [WeightedModule];
  const rank = right.rows;
  const tensors = new Map([
    [names[0], tensorOf(right, [rank, ...tails[0]])],
    [names[1], tensorOf(left, [left.rows, rank, ...tails[1]])],
  ]);
  return { site, rank, tensors };
}

/** B [out, rank] and A [rank, in] of the combination. */
function combinedFactors(
  site: string,
  modules: readonly WeightedModule[],
  combination: Combination,
  options: CombineOptions,
): { readonly left: Matrix; readonly right: Matrix } {
  const { density = 1, majoritySign = "total", seed = 0 } = options;
  const use = (role: string): ArithmeticOptions => ({
    density,
    majoritySign,
    seedOf: (k) => streamSeed(seed, "dare", site, role, modules[k]?.number ?? k),
  });
  const apply = (kind: Arithmetic, role: string, matrices: readonly Matrix[], weights: readonly number[]): Matrix => {
    const [{ rows, columns }] = matrices as readonly [Matrix];
    return matrix(
      rows,
      columns,
      arithmetic(
        kind,
        matrices.map((m) => m.data),
        weights,
        use(role),
      ),
    );
  };
  if (isOneOf(arithmetics, combination)) {
    // Each factor gets the root of the weight, and A its sign.
    const total = modules.map((m) => m.weight * m.scale);
    const roots = total.map((w) => Math.sqrt(Math.abs(w)));
    const signed = total.map((w) => Math.sign(w) * Math.sqrt(Math.abs(w)));
    const [A, B] = [modules.map((m) => m.A), modules.map((m) => m.B)];
    return { left: apply(combination, "B", B, roots), right: apply(combination, "A", A, signed) };
  }
  const side = {
    left: besides(modules.map((m) => m.B)),
    right: stacked(modules.map((m) => scale(m.A, m.weight * m.scale))),
  };
  if (combination === "cat") return side;
  const decomposed = (): Svd => {
    if (combination === "svd") return productSvd(side.left, side.right);
    const kind = combination.slice(0, -"_svd".length) as Arithmetic;
    // As in peft the products are scaled, and the adapters' weights come after trimming.
    const products = modules.map((m) => scale(multiply(m.B, m.A), m.scale));
    return svd(
      apply(
        kind,
        "product",
        products,
        modules.map((m) => m.weight),
      ),
    );
  };
  const result = decomposed();
  const wanted = options.rank ?? Math.max(...modules.map(({ A }) => A.rows));
  return leadingFactors(result, Math.min(wanted, result.s.length));
}

/** Matrices below each other. */
function stacked(parts: readonly Matrix[]): Matrix {
  const columns = parts[0]?.columns ?? 0;
  const result = matrix(
    parts.reduce((rows, part) => rows + part.rows, 0),
    columns,
  );
  let at = 0;
  for (const { data } of parts) {
    result.data.set(data, at);
    at += data.length;
  }
  return result;
}

/** Matrices side by side. */
const besides = (parts: readonly Matrix[]): Matrix => transpose(stacked(parts.map(transpose)));
