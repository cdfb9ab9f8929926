/** Where a module stands: its layer, and what it is in it. */
export interface ModulePlace {
  /** Path up to and with the layer's number, "" for modules outside layers. */
  readonly layer: string;
  /** The rest of the path. */
  readonly type: string;
}

/** @example placeOf("bert.encoder.layer.3.attention.self.query"); // { layer: "bert.encoder.layer.3", type: "attention.self.query" } */
export function placeOf(name: string): ModulePlace {
  const match = /^(.*?\.\d+)\.(.*)$/.exec(name);
  return { layer: match?.[1] ?? "", type: match?.[2] ?? name };
}

export const layersOf = (names: readonly string[]): Map<string, string> =>
  new Map(names.map((name) => [name, placeOf(name).layer]));

/** Gates as a table: a row per layer, a column per type of module; null where there is no such module. */
export interface ModuleTable {
  readonly layers: readonly string[];
  readonly types: readonly string[];
  readonly gates: readonly (readonly (number | null)[])[];
}

export function moduleTable(names: readonly string[], gates: readonly number[]): ModuleTable {
  const places = names.map(placeOf);
  const layers = [...new Set(places.map(({ layer }) => layer))];
  const types = [...new Set(places.map(({ type }) => type))];
  const rows = layers.map((layer) =>
    types.map((type) => gates[places.findIndex((place) => place.layer === layer && place.type === type)] ?? null),
  );
  return { layers, types, gates: rows };
}

/** Logits as gates, in double precision. */
export function gatesOf(
  names: readonly string[],
  logits: ArrayLike<number>,
  relaxation: "sigmoid" | "rowSoftmax" | "none",
): number[] {
  const list = Array.from(logits);
  if (relaxation === "none") return list;
  if (relaxation === "sigmoid") return list.map((a) => 1 / (1 + Math.exp(-a)));
  const layers = layersOf(names);
  return names.map((name, i) => {
    const row = list.filter((_, k) => layers.get(names[k] ?? "") === layers.get(name));
    const largest = Math.max(...row);
    const total = row.reduce((sum, a) => sum + Math.exp(a - largest), 0);
    return (row.length * Math.exp((list[i] as number) - largest)) / total;
  });
}

/** Indices by falling gate; equal gates keep their order, that of layers and of modules within them. */
const byGate = (indices: readonly number[], gates: readonly number[]): number[] =>
  [...indices].sort((a, b) => (gates[b] as number) - (gates[a] as number) || a - b);

/**
 * The modules that are kept: round(ratio n) of the largest gates, of the whole model or of every layer, the largest first. Halves are
 * rounded up; at least one module is kept.
 */
export function selectModules(
  names: readonly string[],
  gates: readonly number[],
  { ratio, selection }: { readonly ratio: number; readonly selection: "global" | "perLayer" },
): string[] {
  const all = [...names.keys()];
  const layers = layersOf(names);
  const groups =
    selection === "global"
      ? [all]
      : [...new Set(layers.values())].map((layer) => all.filter((i) => layers.get(names[i] ?? "") === layer));
  const kept = groups.flatMap((group) => byGate(group, gates).slice(0, Math.round(ratio * group.length)));
  const chosen = kept.length > 0 ? kept : byGate(all, gates).slice(0, 1);
  return byGate(chosen, gates).map((i) => names[i] ?? "");
}
