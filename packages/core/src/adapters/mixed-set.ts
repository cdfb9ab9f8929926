import { PeftError } from "../errors.ts";
import { cutCache } from "../lowering/cut-cache.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import type { Adapter } from "./adapter.ts";
import { type InjectOptions, planAdapter } from "./inject.ts";
import { type MixedModel, rowFeeds, severalModel } from "./mixed.ts";
import { type AdapterFeeds, createNamedFeeds } from "./named-feeds.ts";
import { BASE_ROWS } from "./row-segments.ts";
import { renamedPlans, severalName } from "./several.ts";
import { findSites } from "./sites.ts";
import { adapterFeeds, type ServedSites, servedPlans } from "./swappable.ts";

/** A model with places for several adapters, which are fed, and of which each row of a batch uses one or none. */
export interface MixedSwappableModel extends MixedModel, ServedSites {}

/** Adapters by name, any number of them, for batches of one session. */
export interface MixedSet {
  readonly names: readonly string[];
  /** @throws PeftError ADAPTER_EXISTS, ADAPTER_MISMATCH, ADAPTER_OUTSIDE, ADAPTER_CONFIG */
  add(name: string, adapter: Adapter): void;
  /** @throws PeftError UNKNOWN_ADAPTER */
  delete(name: string): void;
  /**
   * Feeds of a run in which row i uses the adapter `rows[i]`, "__base__" for none.
   * @throws PeftError UNKNOWN_ADAPTER; TOO_MANY_ADAPTERS when a batch uses more adapters than the model has places
   */
  feeds(rows: readonly string[]): AdapterFeeds;
}

/**
 * A model with `places` places for adapters that are fed on every run: as {@link makeSwappable}, and with another adapter for each
 * row. A set has any number of adapters; one batch uses at most `places` of them.
 * @throws PeftError as injectAdapter; OPSET, BATCH_UNKNOWN, ROWS_UNKNOWN
 * @example
 * const mixed = makeMixedSwappable(model, { method: lora, config: { targetModules: ["query", "value"] }, places: 4 });
 * const set = createMixedSet(mixed);
 * set.add("spam", spam);
 * await session.run({ ...inputs, ...set.feeds(["spam", "__base__", "spam"]) });
 */
export function makeMixedSwappable<C extends object>(
  original: Model,
  { places, ...options }: Omit<InjectOptions<C>, "training"> & { readonly places: number },
): MixedSwappableModel {
  if (!Number.isInteger(places) || places < 1) {
    throw new PeftError("CONFIG_INVALID", `Expected a whole number >= 1 as places, received ${places}.`);
  }
  const base = cutCache(prepareModel(original));
  const sites = options.sites ?? findSites(base, { naming: options.naming ?? "file" });
  const plans = servedPlans(planAdapter(base, { ...options, sites }));
  const names = Array.from({ length: places }, (_, i) => `${i}`);
  const model = severalModel(
    base,
    names.map((name, i) => ({ name, plans: renamedPlans({ name, plans }, i) })),
  );
  return { model, names, base, sites, plans };
}

/** Keeps named adapters for batches of a {@link MixedSwappableModel}; an adapter's feeds are prepared once. */
export function createMixedSet(mixed: MixedSwappableModel): MixedSet {
  const adapters = createNamedFeeds(BASE_ROWS);
  const neutral = adapterFeeds(mixed, null);
  return {
    get names() {
      return adapters.names;
    },
    add(name, adapter) {
      adapters.add(name, () => adapterFeeds(mixed, adapter));
    },
    delete: adapters.delete,
    feeds(rows) {
      const used = [...new Set(rows)].filter((name) => name !== BASE_ROWS);
      if (used.length > mixed.names.length) {
        throw new PeftError(
          "TOO_MANY_ADAPTERS",
          `The model has places for ${mixed.names.length} adapters, the batch uses ${used.length}: [${used.join(", ")}].`,
          { hint: "Run the rows in several batches, or make the model with more places." },
        );
      }
      const placeOf = new Map(used.map((name, i) => [name, mixed.names[i] as string]));
      const placed = mixed.names.flatMap((place, i) => {
        const name = used[i];
        const feeds = name === undefined ? neutral : adapters.get(name);
        return Object.entries(feeds).map(([tensor, value]) => [severalName(place, tensor), value] as const);
      });
      return {
        ...Object.fromEntries(placed),
        ...rowFeeds(
          mixed.names,
          rows.map((name) => placeOf.get(name) ?? name),
        ),
      };
    },
  };
}
