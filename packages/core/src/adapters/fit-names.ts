import { full } from "../methods/full.ts";
import { methodOf } from "../methods/registry.ts";
import type { Adapter } from "./adapter.ts";
import { namesIn, namingOf } from "./naming.ts";
import { patternValue } from "./targets.ts";

const escaped = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * The adapter under the module names of a model, when it was trained under those of another generation of transformers: a ViT
 * adapter from the hub says "encoder.layer.0.attention.attention.query" where a new export says "layers.0.attention.q_proj".
 * Pattern fields (rank, alpha) are written out module by module. The same object when the names fit as they are.
 */
export function fitNames(adapter: Adapter, names: readonly string[]): Adapter {
  const method = methodOf(adapter.type);
  const keys = [...Object.values(method.keys), ...Object.values(full.keys)];
  const moduleOf = (tensor: string): string | null => {
    const key = keys.find((k) => tensor.endsWith(`.${k}`));
    return key === undefined ? null : tensor.slice(0, -key.length - 1);
  };
  const modules = [...new Set([...adapter.tensors.keys()].flatMap((name) => moduleOf(name) ?? []))];
  const naming = namingOf(names, modules);
  if (naming === "file") return adapter;
  const others = namesIn(names, naming);
  const own = new Map(others.map((name, i) => [name, names[i] as string]));
  const tensors = [...adapter.tensors].map(([name, tensor]) => {
    const module = moduleOf(name);
    const renamed = module === null ? undefined : own.get(module);
    return [renamed === undefined ? name : renamed + name.slice(module?.length), tensor] as const;
  });
  const fields = adapter.config as Readonly<Record<string, unknown>>;
  const patterns = Object.values(method.patterns ?? {}).flatMap((field) => {
    const pattern = fields[field] as Readonly<Record<string, number>> | undefined;
    if (!pattern || Object.keys(pattern).length === 0) return [];
    const values = [...own].map(([other, name]) => [escaped(name), patternValue(pattern, other, Number.NaN)] as const);
    // The first key that fits the end of a name counts: longer names go first.
    const given = values.filter(([, value]) => !Number.isNaN(value)).sort(([a], [b]) => b.length - a.length);
    return [[field, Object.fromEntries(given)] as const];
  });
  return { ...adapter, config: { ...adapter.config, ...Object.fromEntries(patterns) }, tensors: new Map(tensors) };
}
