import { PeftError } from "../errors.ts";
import { lora } from "../methods/lora.ts";
import type { AdapterTensor } from "../methods/method.ts";
import { type TriAdaptConfig, triAdaptScale } from "../methods/tri-adapt-config.ts";
import { loraAOf, triAdaptLora } from "../methods/tri-adapt-lora.ts";
import type { Adapter } from "./adapter.ts";
import { loraFromFactors } from "./lora-from-factors.ts";
import { parameterName } from "./parameters.ts";
import { methodConfig } from "./select.ts";

/**
 * The LoRA adapter that a TriAdaptLoRA adapter equals, of the same ranks: A' = scale·C·A, B' = B. Nothing is lost but rounding, no base
 * model and no decomposition is needed, and peft reads the result.
 * @throws PeftError NOT_LORA for other methods
 * @example
 * const { config, tensors } = toPeft(triAdaptToLora(adapter));
 */
export function triAdaptToLora(adapter: Adapter): Adapter {
  if (adapter.type !== triAdaptLora.type) {
    throw new PeftError("NOT_LORA", `Expected a ${triAdaptLora.type} adapter, received a ${adapter.type} adapter.`);
  }
  const config = methodConfig(adapter.config) as TriAdaptConfig;
  const ending = `.${triAdaptLora.keys["A"]}`;
  const sites = [...adapter.tensors.keys()]
    .filter((name) => name.endsWith(ending))
    .map((name) => name.slice(0, -ending.length));
  const own = new Set<string>();
  const converted = sites.map((site) => {
    const tensors = Object.fromEntries(
      ["A", "B", "L", "U"].flatMap((role) => {
        const name = parameterName(triAdaptLora, site, role);
        const tensor = adapter.tensors.get(name);
        own.add(name);
        return tensor ? [[role, tensor] as const] : [];
      }),
    );
    const a = loraAOf(tensors);
    const rank = a.dims[0] ?? 1;
    const scale = triAdaptScale(rank, config);
    const b = adapter.tensors.get(parameterName(triAdaptLora, site, "B"));
    const factors: [string, AdapterTensor][] = [
      [parameterName(lora, site, "A"), { dims: a.dims, data: a.data.map((v) => v * scale) }],
      ...(b ? [[parameterName(lora, site, "B"), b] as [string, AdapterTensor]] : []),
    ];
    return { site, rank, tensors: new Map(factors) };
  });
  const { taskType, modulesToSave, baseModelNameOrPath } = adapter.config;
  const fields = {
    ...(taskType ? { taskType } : {}),
    ...(modulesToSave ? { modulesToSave } : {}),
    ...(baseModelNameOrPath ? { baseModelNameOrPath } : {}),
  };
  return loraFromFactors(converted, fields, new Map([...adapter.tensors].filter(([name]) => !own.has(name))));
}
