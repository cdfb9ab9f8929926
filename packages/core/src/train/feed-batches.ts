import type { Feeds } from "../runtime/runtime.ts";

/** Batches that can be read several times: an array, or what starts reading from the beginning. */
export type FeedBatches = readonly Feeds[] | (() => Iterable<Feeds> | AsyncIterable<Feeds>);

/** Begins to read. */
export const readBatches = (batches: FeedBatches): Iterable<Feeds> | AsyncIterable<Feeds> =>
  typeof batches === "function" ? batches() : batches;
