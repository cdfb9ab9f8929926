import { createRandom, PeftError, type Random, type Seed, shuffle, streamSeed } from "@onnx-peft/core";

export interface StreamBatchOptions {
  batchSize: number;
  /** Rows kept in memory to draw from. Default 0: the order of the file. */
  shuffleBuffer?: number;
  /** Needed for shuffling; take another one per epoch, `streamSeed(seed, epoch)` say. */
  seed?: Seed;
  /** Leave out a last batch that is not full. Default false. */
  dropLast?: boolean;
}

/**
 * Shuffles a stream within a window: each new row takes the place of a random one of the last `size`, which goes out. Rows
 * that stand far apart in the file are not mixed; a file sorted by label needs a buffer as large as the file.
 */
export async function* shuffleStream<T>(
  rows: AsyncIterable<T> | Iterable<T>,
  size: number,
  random: Random,
): AsyncGenerator<T> {
  const buffer: T[] = [];
  for await (const row of rows) {
    if (buffer.length < size) {
      buffer.push(row);
      continue;
    }
    const place = random.integer(size);
    const out = buffer[place] as T;
    buffer[place] = row;
    yield out;
  }
  yield* shuffle(buffer, random);
}

/**
 * Batches of a stream, for data larger than memory. The same stream and seed give the same batches.
 *
 * @throws PeftError BATCH_SIZE_INVALID for sizes that are not whole or too small, or a shuffle buffer without a seed.
 * @example
 * for await (const batch of streamBatches(streamTextDataset("big.jsonl"), { batchSize: 32, shuffleBuffer: 10_000, seed: 1 })) use(batch);
 */
export async function* streamBatches<T>(
  rows: AsyncIterable<T> | Iterable<T>,
  { batchSize, shuffleBuffer = 0, seed, dropLast = false }: StreamBatchOptions,
): AsyncGenerator<T[]> {
  if (!Number.isInteger(batchSize) || batchSize < 1 || !Number.isInteger(shuffleBuffer) || shuffleBuffer < 0) {
    throw new PeftError(
      "BATCH_SIZE_INVALID",
      `expected whole numbers batchSize >= 1 and shuffleBuffer >= 0, received ${batchSize} and ${shuffleBuffer}.`,
    );
  }
  if (shuffleBuffer > 0 && seed === undefined) {
    throw new PeftError("BATCH_SIZE_INVALID", "expected a seed with shuffleBuffer, received none.");
  }
  const source =
    shuffleBuffer > 0
      ? shuffleStream(rows, shuffleBuffer, createRandom(streamSeed(seed ?? 0, "shuffle-buffer")))
      : rows;
  let batch: T[] = [];
  for await (const row of source) {
    batch.push(row);
    if (batch.length === batchSize) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0 && !dropLast) yield batch;
}
