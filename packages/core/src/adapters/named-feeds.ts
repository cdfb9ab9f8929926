import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";

/** Feeds of one adapter. */
export type AdapterFeeds = Readonly<Record<string, RuntimeTensor>>;

/** Prepared feeds of adapters, by the adapters' names. */
export interface NamedFeeds {
  readonly names: readonly string[];
  /** @param make is called when the name is free. @throws PeftError ADAPTER_EXISTS */
  add(name: string, make: () => AdapterFeeds): void;
  /** @throws PeftError UNKNOWN_ADAPTER with the nearest name */
  get(name: string): AdapterFeeds;
  /** @throws PeftError UNKNOWN_ADAPTER */
  delete(name: string): void;
}

/** An empty one. @param reserved names that no adapter may have. */
export function createNamedFeeds(...reserved: readonly string[]): NamedFeeds {
  const prepared = new Map<string, AdapterFeeds>();
  const get = (name: string): AdapterFeeds => {
    const feeds = prepared.get(name);
    if (feeds) return feeds;
    const near = nearestName(name, prepared.keys());
    throw new PeftError("UNKNOWN_ADAPTER", `There is no adapter "${name}".`, {
      hint: near ? `Did you mean "${near}"?` : `Adapters are [${[...prepared.keys()].join(", ")}].`,
    });
  };
  return {
    get names() {
      return [...prepared.keys()];
    },
    add(name, make) {
      if (prepared.has(name) || reserved.includes(name)) {
        throw new PeftError("ADAPTER_EXISTS", `There is an adapter "${name}" already.`, { hint: "Delete it first." });
      }
      prepared.set(name, make());
    },
    get,
    delete(name) {
      get(name);
      prepared.delete(name);
    },
  };
}
