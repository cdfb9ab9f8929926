import { PeftError } from "../errors.ts";
import { type DyloraConfig, dylora, dyloraConfig, firstColumns, firstRows } from "../methods/dylora.ts";
import { lora } from "../methods/lora.ts";
import type { AdapterTensor } from "../methods/method.ts";
import type { Adapter } from "./adapter.ts";
import { parseAdapterConfig } from "./select.ts";

/**
 * A DyLoRA adapter cut to a rank: a plain LoRA adapter with alpha / rank, which `peft` reads. No search, no training.
 * @throws PeftError METHOD_MISMATCH for adapters of other methods; LORA_SIZE for a rank above rMax or between blocks
 * @example
 * const small = truncateDylora(adapter, 2); // a LORA adapter with r = 2
 */
export function truncateDylora(adapter: Adapter, rank: number): Adapter {
  if (adapter.type !== dylora.type)
    throw new PeftError("METHOD_MISMATCH", `Expected a DYLORA adapter, received ${adapter.type}.`);
  const config = adapter.config as typeof adapter.config & DyloraConfig;
  const { rMax, blockSize } = config;
  if (!(Number.isInteger(rank) && rank >= 1 && rank <= rMax && rank % blockSize === 0))
    throw new PeftError("LORA_SIZE", `Expected a rank up to ${rMax} in steps of ${blockSize}, received ${rank}.`);
  const own = Object.keys(dyloraConfig.shape);
  const targets = Object.fromEntries(Object.entries(adapter.config).filter(([key]) => !own.includes(key)));
  const cut = (name: string, tensor: AdapterTensor): AdapterTensor =>
    name.endsWith(dylora.keys["A"] as string)
      ? firstRows(tensor, rank)
      : name.endsWith(dylora.keys["B"] as string)
        ? firstColumns(tensor, rank)
        : tensor;
  return {
    type: "LORA",
    config: parseAdapterConfig(lora, { ...targets, r: rank, alpha: config.alpha, dropout: config.dropout }),
    tensors: new Map([...adapter.tensors].map(([name, tensor]) => [name, cut(name, tensor)])),
  };
}
