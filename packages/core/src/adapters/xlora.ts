import { PeftError } from "../errors.ts";
import type { XloraConfig } from "../methods/xlora.ts";
import type { Adapter } from "./adapter.ts";
import { largestRank, moduleExperts, stackedFactors } from "./expert-values.ts";
import type { AdapterPlan } from "./inject.ts";
import { commonFields } from "./lora-modules.ts";
import type { AdapterConfigInput } from "./select.ts";

/**
 * The config of an X-LoRA over trained LoRA adapters: their names, largest rank and modules.
 * @throws PeftError NO_EXPERTS, NOT_LORA, EXPERT_HEAD
 * @example
 * const config = xloraConfigOf({ chemistry, proteins }, { hiddenSize: 768, layerwiseScalings: true });
 * const adapted = injectAdapter(model, { method: xlora, config, training: true });
 * const parameters = withExperts(adapted, initialParameters(adapted, 42), [chemistry, proteins]);
 */
export function xloraConfigOf(
  adapters: Readonly<Record<string, Adapter>>,
  options: Omit<AdapterConfigInput<XloraConfig>, "adapters" | "r" | "targetModules"> & Pick<XloraConfig, "hiddenSize">,
): AdapterConfigInput<XloraConfig> {
  const modules = moduleExperts(Object.values(adapters));
  return {
    ...commonFields(Object.values(adapters)),
    ...options,
    adapters: Object.fromEntries(Object.keys(adapters).map((name) => [name, name])),
    r: largestRank(modules),
    targetModules: modules.map(({ module }) => module),
  };
}

/**
 * Start values in which the experts are trained LoRA adapters.
 * @param adapters in the order of the config.
 * @throws PeftError EXPERTS_DIFFER when they do not fit the plan; NO_EXPERTS, NOT_LORA, EXPERT_HEAD
 */
export function withExperts(
  plan: AdapterPlan,
  values: ReadonlyMap<string, Float32Array>,
  adapters: readonly Adapter[],
): Map<string, Float32Array> {
  const result = new Map(values);
  for (const module of moduleExperts(adapters)) {
    const own = plan.parameters.filter(({ site, spec }) => site === module.module && spec.replaces === undefined);
    const [A, B] = [own.find(({ role }) => role === "A"), own.find(({ role }) => role === "B")];
    const [count = 0, r = 0] = A?.shape ?? [];
    const rank = largestRank([module]);
    if (!A || !B || count !== adapters.length || r < rank) {
      throw new PeftError(
        "EXPERTS_DIFFER",
        `Expected ${count} experts of rank ${r} or less at "${module.module}", received ${adapters.length} of rank ${rank}.`,
        { hint: "Make the config with xloraConfigOf." },
      );
    }
    const factors = stackedFactors(module, r);
    result.set(A.name, factors.A);
    result.set(B.name, factors.B);
  }
  return result;
}
