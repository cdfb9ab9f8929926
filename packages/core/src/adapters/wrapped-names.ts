import { type LoraConfig, lora } from "../methods/lora.ts";
import { swappedFactors } from "../methods/lora-experts.ts";
import { type AdapterTensor, siteConfig } from "../methods/method.ts";
import type { Adapter } from "./adapter.ts";
import { type AdapterConfig, methodConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { isNamed, patternValue } from "./targets.ts";

const keys = { A: lora.keys["A"] ?? "", B: lora.keys["B"] ?? "" };

const parentOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf(".")));

function grouped<T>(entries: readonly T[], keyOf: (entry: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const entry of entries) {
    const key = keyOf(entry);
    const known = groups.get(key);
    if (known) known.push(entry);
    else groups.set(key, [entry]);
  }
  return groups;
}

interface Factors {
  readonly A: AdapterTensor;
  readonly B: AdapterTensor;
}

/** Pairs of factors by what stands before their keys, in order. */
function factorsIn(tensors: ReadonlyMap<string, AdapterTensor>): Map<string, Factors> {
  const found = new Map<string, Factors>();
  for (const [name, A] of tensors) {
    if (!name.endsWith(`.${keys.A}`)) continue;
    const module = name.slice(0, -keys.A.length - 1);
    const B = tensors.get(`${module}.${keys.B}`);
    if (B) found.set(module, { A, B });
  }
  return found;
}

function renamed(adapter: Adapter, names: ReadonlyMap<string, { readonly name: string } & Factors>): Adapter {
  if (names.size === 0) return adapter;
  const tensors = [...adapter.tensors].map(([name, tensor]): [string, AdapterTensor] => {
    for (const role of ["A", "B"] as const) {
      const target = name.endsWith(`.${keys[role]}`) ? names.get(name.slice(0, -keys[role].length - 1)) : undefined;
      if (target) return [`${target.name}.${keys[role]}`, target[role]];
    }
    return [name, tensor];
  });
  return { ...adapter, tensors: new Map(tensors) };
}

/**
 * An adapter of experts under the names of peft's files. peft wraps the module once for each parameter, and a file says how deep:
 * "experts.base_layer.lora_A.weight" belongs to the module's first parameter, "experts.lora_A.weight" to its second and last one.
 * Parameters are taken to be in the order in which the model uses them, as those of transformers are.
 * @param options.swap the two factors in each other's place, see {@link swappedFactors}.
 */
export function wrappedNames(adapter: Adapter, { swap = false }: { readonly swap?: boolean } = {}): Adapter {
  const { targetParameters } = adapter.config;
  if (adapter.type !== lora.type || targetParameters === undefined) return adapter;
  const config = methodConfig(adapter.config as AdapterConfig<LoraConfig>);
  const parameters = [...factorsIn(adapter.tensors)].flatMap(([module, factors]) => {
    const { r } = siteConfig(lora, config, module, patternValue);
    const count = (factors.A.dims[0] ?? 0) / r;
    // A linear layer may be called as a parameter is; its A has r rows.
    return isNamed(module, targetParameters) && count > 1 ? [{ module, count, ...factors }] : [];
  });
  const names = new Map(
    [...grouped(parameters, ({ module }) => parentOf(module))].flatMap(([parent, siblings]) =>
      siblings.map(({ module, count, A, B }, i) => {
        const name = parent + ".base_layer".repeat(siblings.length - 1 - i);
        return [module, { name, ...(swap ? swappedFactors(A, B, count) : { A, B }) }] as const;
      }),
    ),
  );
  return renamed(adapter, names);
}

/** How factors fit a parameter: as they are, in each other's place, both ways, or not at all. */
function fit({ A, B }: Factors, { inFeatures, outFeatures }: Site): "as is" | "swapped" | "both" | null {
  const [a, b] = [A.dims[1], B.dims[0]];
  const [asIs, swapped] = [a === inFeatures && b === outFeatures, a === outFeatures && b === inFeatures];
  return asIs && swapped ? "both" : asIs ? "as is" : swapped ? "swapped" : null;
}

interface Placed extends Factors {
  readonly module: string;
  readonly site: Site;
}

/** The parameters of one module beside the factors of its wrappers, the innermost first; null where they do not belong together. */
function placed(wrappers: readonly (readonly [string, Factors])[], sites: readonly Site[]): Placed[] | null {
  if (wrappers.length !== sites.length) return null;
  const orders = [sites, [...sites].reverse()].map((order) =>
    wrappers.map(([module, factors], i): Placed => ({ module, ...factors, site: order[i] as Site })),
  );
  return orders.find((order) => order.every((one) => fit(one, one.site) !== null)) ?? orders[0] ?? null;
}

/**
 * The inverse of {@link wrappedNames} for a file of peft, which the model's own parameters complete: names of parameters in the place
 * of depths, and factors that were laid out the other way round turned back. The same object where there is nothing to do.
 */
export function unwrappedNames(adapter: Adapter, sites: readonly Site[]): Adapter {
  const { targetParameters } = adapter.config;
  if (adapter.type !== lora.type || targetParameters === undefined) return adapter;
  const experts = sites.filter(({ kind, name }) => kind === "experts" && isNamed(name, targetParameters));
  const wrappersOf = grouped([...factorsIn(adapter.tensors)], ([name]) => name.replace(/(\.base_layer)+$/, ""));
  const all = [...grouped(experts, ({ name }) => parentOf(name))].flatMap(([parent, own]): Placed[] => {
    const innermostFirst = (wrappersOf.get(parent) ?? []).sort(([a], [b]) => b.length - a.length);
    return placed(innermostFirst, own) ?? [];
  });
  // Square matrices do not say; those of the other parameters do.
  const isSwapped = all.some((one) => fit(one, one.site) === "swapped");
  const names = new Map(
    all.map(({ module, site, A, B }) => {
      const how = fit({ A, B }, site);
      const turn = how === "swapped" || (how === "both" && isSwapped);
      return [module, { name: site.name, ...(turn ? swappedFactors(A, B, site.weightShape[0] ?? 1) : { A, B }) }];
    }),
  );
  return renamed(adapter, names);
}
