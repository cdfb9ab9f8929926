import type { Matrix } from "../linalg/matrix.ts";
import { lora } from "../methods/lora.ts";
import type { AdapterTensor } from "../methods/method.ts";
import type { Adapter } from "./adapter.ts";
import { patternOfName } from "./pattern.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "./select.ts";

/** What one module of a LoRA adapter is made of. */
export interface LoraFactors {
  readonly site: string;
  readonly rank: number;
  readonly tensors: ReadonlyMap<string, AdapterTensor>;
}

/** A float32 tensor of a matrix, in other dimensions where a convolution has more than two. */
export const tensorOf = (
  { rows, columns, data }: Matrix,
  dims: readonly number[] = [rows, columns],
): AdapterTensor => ({
  dims,
  data: Float32Array.from(data),
});

/**
 * A LoRA adapter whose update is exactly B·A at each module: alpha equals the rank everywhere. The most frequent rank becomes
 * `r`, modules of another one are named in the patterns.
 * @param fields options about modules and heads that are taken over
 * @param others tensors of modules that are saved as a whole
 */
export function loraFromFactors(
  sites: readonly LoraFactors[],
  fields: AdapterConfigInput,
  others: ReadonlyMap<string, AdapterTensor> = new Map(),
): Adapter {
  const counts = new Map<number, number>();
  for (const { rank } of sites) counts.set(rank, (counts.get(rank) ?? 0) + 1);
  const r = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best), [1, 0])[0];
  // The first pattern that fits the end of a name wins: longer names first.
  const special = sites
    .filter(({ rank }) => rank !== r)
    .sort((a, b) => b.site.length - a.site.length)
    .map(({ site, rank }) => [patternOfName(site), rank] as const);
  const pattern = Object.fromEntries(special);
  const config = parseAdapterConfig(lora, {
    ...fields,
    r,
    alpha: r,
    rankPattern: pattern,
    alphaPattern: pattern,
    targetModules: sites.map(({ site }) => site),
  });
  const tensors = new Map([...sites.flatMap((site) => [...site.tensors]), ...others]);
  return { type: lora.type, config, tensors };
}
