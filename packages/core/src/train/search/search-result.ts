import type { AdapterConfigInput } from "../../adapters/select.ts";
import type { TargetConfig } from "../../adapters/targets.ts";
import { type LoraConfig, lora } from "../../methods/lora.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import { GATES } from "./gated-lora.ts";
import type { DifforaConfig } from "./search-options.ts";

/** What a tensor begins with. */
export interface StartTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** A plain LoRA at the kept modules, heads as in the search. */
export function loraConfigFor(
  given: TargetConfig,
  { r, alpha, dropout }: DifforaConfig,
  selected: readonly string[],
): AdapterConfigInput<LoraConfig> {
  const { taskType, modulesToSave, baseModelNameOrPath } = given;
  return {
    ...{ r, alpha, dropout, targetModules: [...selected] },
    ...(taskType ? { taskType } : {}),
    ...(modulesToSave ? { modulesToSave } : {}),
    ...(baseModelNameOrPath ? { baseModelNameOrPath } : {}),
  };
}

/** What was trained, for the kept modules and heads: A as it is, B times the gate, so that the kept part of the model stays as it is. */
export function startFrom(
  found: Readonly<Record<string, RuntimeTensor>>,
  names: readonly string[],
  gates: readonly number[],
  selected: readonly string[],
  { weights }: DifforaConfig,
): ReadonlyMap<string, StartTensor> {
  const kept = new Set(selected);
  const gateOf = new Map(names.map((name, i) => [name, gates[i] ?? 0]));
  const endings = [`.${lora.keys["A"]}`, `.${lora.keys["B"]}`] as const;
  const entries = Object.entries(found).flatMap(([name, { dims, data }]) => {
    const values = data as Float32Array;
    const ending = endings.find((end) => name.endsWith(end));
    const module = ending ? name.slice(0, -ending.length) : null;
    const gate = module === null ? undefined : gateOf.get(module);
    if (name === GATES || /\.diffora_(own|layer)$/.test(name)) return [];
    if (module === null || gate === undefined) return [[name, { dims, data: values }] as const];
    if (weights === "fresh" || !kept.has(module)) return [];
    return [[name, { dims, data: ending === endings[1] ? values.map((v) => v * gate) : values }] as const];
  });
  return new Map(entries);
}
