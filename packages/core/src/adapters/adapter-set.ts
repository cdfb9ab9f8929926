import type { Adapter } from "./adapter.ts";
import { type AdapterFeeds, createNamedFeeds } from "./named-feeds.ts";
import { adapterFeeds, type SwappableModel } from "./swappable.ts";

/** Several named adapters of one swappable model. */
export interface AdapterSet {
  readonly names: readonly string[];
  /** The adapter in effect, or null: none was chosen, or adapters are disabled. */
  readonly active: string | null;
  /** Takes an adapter in; the first one becomes active. @throws PeftError ADAPTER_EXISTS, ADAPTER_MISMATCH, ADAPTER_OUTSIDE */
  add(name: string, adapter: Adapter): void;
  /** Chooses the adapter in effect, and enables adapters. @throws PeftError UNKNOWN_ADAPTER */
  setActive(name: string): void;
  /** Runs the base model until `enable` or `setActive`. */
  disable(): void;
  enable(): void;
  /** Forgets an adapter; when it was active none is afterwards. @throws PeftError UNKNOWN_ADAPTER */
  delete(name: string): void;
  /** Feeds for the next run: of the adapter in effect, or of a named one (null: of none). */
  feeds(name?: string | null): AdapterFeeds;
}

/**
 * Keeps named adapters for one session: adding, switching and disabling change feeds and never the session. Feeds are
 * prepared once per adapter.
 * @example
 * const set = createAdapterSet(swappable);
 * set.add("spam", spamAdapter);
 * set.add("topics", topicAdapter);
 * set.setActive("topics");
 * await session.run({ ...inputs, ...set.feeds() });
 */
export function createAdapterSet(swappable: SwappableModel): AdapterSet {
  const adapters = createNamedFeeds();
  const neutral = adapterFeeds(swappable, null);
  let chosen: string | null = null;
  let enabled = true;
  return {
    get names() {
      return adapters.names;
    },
    get active() {
      return enabled ? chosen : null;
    },
    add(name, adapter) {
      adapters.add(name, () => adapterFeeds(swappable, adapter));
      chosen ??= name;
    },
    setActive(name) {
      adapters.get(name);
      chosen = name;
      enabled = true;
    },
    disable() {
      enabled = false;
    },
    enable() {
      enabled = true;
    },
    delete(name) {
      adapters.delete(name);
      if (chosen === name) chosen = null;
    },
    feeds(name) {
      if (typeof name === "string") return adapters.get(name);
      return name === null || !enabled || chosen === null ? neutral : adapters.get(chosen);
    },
  };
}
