import { PeftError } from "../errors.ts";
import { add, multiply, scale, subtract, transpose } from "../linalg/matrix.ts";
import { symmetricEigen } from "../linalg/symmetric-eigen.ts";
import { type ArrowConfig, arrow } from "../methods/arrow.ts";
import type { AdapterTensor } from "../methods/method.ts";
import type { Adapter } from "./adapter.ts";
import { type Factors, largestRank, type ModuleExperts, moduleExperts, stackedFactors } from "./expert-values.ts";
import { commonFields } from "./lora-modules.ts";
import { parseAdapterConfig } from "./select.ts";

export interface ArrowOptions extends Partial<Pick<ArrowConfig, "topK" | "routerTemperature" | "trainExperts">> {
  /**
   * Adapters of general knowledge (other languages or domains, not tasks): their mean is taken from every expert's factors before
   * prototypes are made, so that experts differ in what is theirs (GenKnowSub, ACL 2025).
   */
  readonly general?: readonly Adapter[];
}

/**
 * The top right singular vector of B·A [out, in], of length 1 and any sign; zeros for a product of zeros. With C = BᵀB = V·D·Vᵀ the
 * right singular vectors are those of D^½·Vᵀ·A, whose Gram matrix is [r, r].
 */
export function prototypeOf({ A, B }: Factors): Float64Array {
  const inner = symmetricEigen(multiply(transpose(B), B));
  const roots = Float64Array.from(inner.values, (value) => Math.sqrt(Math.max(0, value)));
  const rooted = multiply(transpose(inner.vectors), A); // [r, in]
  for (let i = 0; i < rooted.rows; i++)
    for (let j = 0; j < rooted.columns; j++) {
      const at = i * rooted.columns + j;
      rooted.data[at] = (rooted.data[at] as number) * (roots[i] as number);
    }
  const outer = symmetricEigen(multiply(rooted, transpose(rooted)));
  const last = outer.values.length - 1;
  const direction = new Float64Array(A.columns);
  for (let i = 0; i < rooted.rows; i++) {
    const weight = outer.vectors.data[i * rooted.rows + last] as number;
    for (let j = 0; j < direction.length; j++)
      direction[j] = (direction[j] as number) + weight * (rooted.data[i * direction.length + j] as number);
  }
  const norm = Math.hypot(...direction);
  return norm === 0 ? direction : direction.map((v) => v / norm);
}

/** The mean of factors, as peft takes it: of A and of B apart. */
function meanOf(list: readonly Factors[]): Factors {
  const [first, ...more] = list as readonly [Factors, ...Factors[]];
  const mean = (part: "A" | "B") =>
    scale(
      more.reduce((sum, factors) => add(sum, factors[part]), first[part]),
      1 / list.length,
    );
  return { A: mean("A"), B: mean("B") };
}

/** A module's experts without what is general. */
function withoutGeneral(own: ModuleExperts, general: ModuleExperts | undefined): ModuleExperts {
  if (!general) return own;
  const list = general.list.filter((factors) => factors !== null);
  const mean = meanOf(list);
  return {
    ...own,
    list: own.list.map(
      (factors) => factors && { scale: factors.scale, A: subtract(factors.A, mean.A), B: subtract(factors.B, mean.B) },
    ),
  };
}

/** Differences of factors need equal ranks and modules. @throws PeftError EXPERTS_DIFFER */
function checkAlike(own: readonly ModuleExperts[], general: readonly ModuleExperts[]): void {
  const rank = largestRank([...own, ...general]);
  const differing = [...own, ...general].find(({ list }) => list.some((factors) => factors?.A.rows !== rank));
  const names = (list: readonly ModuleExperts[]): string =>
    list
      .map(({ module }) => module)
      .sort()
      .join("\n");
  if (!differing && names(own) === names(general)) return;
  throw new PeftError(
    "EXPERTS_DIFFER",
    `General adapters are subtracted from the experts' factors: expected the same modules and rank ${rank} in all of them${differing ? `, "${differing.module}" has others` : ""}.`,
  );
}

/**
 * One adapter that routes every token to the trained LoRA adapters that fit it best (Arrow); nothing is trained. The adapters may
 * differ in rank, scale and modules.
 * @throws PeftError NO_EXPERTS, NOT_LORA, EXPERT_HEAD, EXPERTS_DIFFER, CONFIG_INVALID
 * @example
 * const router = arrowAdapter([summaries, questions, dialogues], { topK: 2, routerTemperature: 0.5 });
 * adapterFeeds(makeSwappable(model, { method: arrow, config: router.config }), router);
 */
export function arrowAdapter(adapters: readonly Adapter[], { general = [], ...options }: ArrowOptions = {}): Adapter {
  const experts = moduleExperts(adapters);
  const common = general.length > 0 ? moduleExperts(general) : [];
  if (general.length > 0) checkAlike(experts, common);
  const known = new Map(common.map((one) => [one.module, one]));
  const r = largestRank(experts);
  const config = parseAdapterConfig(arrow, {
    ...commonFields(adapters),
    topK: Math.min(3, adapters.length),
    ...options,
    experts: adapters.length,
    r,
    targetModules: experts.map(({ module }) => module),
  });
  const tensors = new Map<string, AdapterTensor>();
  for (const one of experts) {
    const own = withoutGeneral(one, known.get(one.module));
    const { A, B } = stackedFactors(own, r);
    const first = own.list.find((factors) => factors !== null);
    const [inFeatures, outFeatures] = [first?.A.columns ?? 0, first?.B.rows ?? 0];
    const prototypes = new Float32Array(own.list.length * inFeatures);
    for (const [e, factors] of own.list.entries()) if (factors) prototypes.set(prototypeOf(factors), e * inFeatures);
    const count = own.list.length;
    tensors.set(`${one.module}.${arrow.keys["A"]}`, { dims: [count, r, inFeatures], data: A });
    tensors.set(`${one.module}.${arrow.keys["B"]}`, { dims: [count, outFeatures, r], data: B });
    tensors.set(`${one.module}.${arrow.keys["prototypes"]}`, { dims: [count, inFeatures], data: prototypes });
  }
  return { type: arrow.type, config, tensors };
}
