/** Sizes are rounded up to this. */
const UNIT = 256;
const PAGE = 4096;
/** Limits of ONNX Runtime's defaults: size of the first region, and of a rest that is always split off. */
const FIRST_REGION = 1 << 20;
const MOST_DEAD = 128 << 20;
const LARGEST_REGION = 1 << 30;

interface Chunk {
  readonly region: Region;
  start: number;
  size: number;
  free: boolean;
  previous: Chunk | null;
  next: Chunk | null;
}

interface Region {
  /** Pages that were ever written, as one bit each would say; one byte each here. */
  readonly touched: Uint8Array;
}

/** Memory of one session, as its allocator hands it out. */
export interface Arena {
  allocate(bytes: number): Chunk;
  release(chunk: Chunk): void;
  /** Bytes of all pages that were ever in use: what the process keeps resident. */
  touchedBytes(): number;
}

export type { Chunk };

/**
 * ONNX Runtime's arena of a CPU session (BFCArena with its default settings), without memory: best fit among free chunks, a
 * chunk is split where at least half of it would stay unused, free neighbours are joined, and a new region is a power of two
 * and twice as large as the one before. Regions are never given back; the pages of a region that nothing was put on
 * are not resident, so these are what counts.
 */
export function createArena(): Arena {
  /** Free chunks by size class (powers of two), each sorted by size, then by age. */
  const bins = new Map<number, Chunk[]>();
  let regionBytes = FIRST_REGION;
  let touchedPages = 0;
  const binOf = (size: number): number => Math.floor(Math.log2(size / UNIT));
  const put = (chunk: Chunk): void => {
    const bin = binOf(chunk.size);
    const list = bins.get(bin) ?? [];
    if (list.length === 0) bins.set(bin, list);
    let at = list.findIndex((other) => other.size > chunk.size);
    if (at < 0) at = list.length;
    list.splice(at, 0, chunk);
  };
  const take = (chunk: Chunk): void => {
    const list = bins.get(binOf(chunk.size)) ?? [];
    list.splice(list.indexOf(chunk), 1);
  };
  const find = (size: number): Chunk | undefined => {
    for (let bin = binOf(size); bin <= 40; bin++) {
      const found = bins.get(bin)?.find((chunk) => chunk.size >= size);
      if (found) return found;
    }
    return undefined;
  };
  const extend = (size: number): void => {
    let grown = false;
    while (size > regionBytes) {
      regionBytes *= 2;
      grown = true;
    }
    const bytes = regionBytes;
    if (!grown) regionBytes = Math.min(regionBytes * 2, LARGEST_REGION);
    const region: Region = { touched: new Uint8Array(bytes / PAGE) };
    put({ region, start: 0, size: bytes, free: true, previous: null, next: null });
  };
  const touch = ({ region, start }: Chunk, bytes: number): void => {
    const last = Math.floor((start + Math.max(1, bytes) - 1) / PAGE);
    for (let page = Math.floor(start / PAGE); page <= last; page++) {
      if (region.touched[page] === 1) continue;
      region.touched[page] = 1;
      touchedPages++;
    }
  };
  return {
    allocate(bytes) {
      const size = Math.max(UNIT, Math.ceil(bytes / UNIT) * UNIT);
      let chunk = find(size);
      if (!chunk) {
        extend(size);
        chunk = find(size) as Chunk;
      }
      take(chunk);
      if (chunk.size >= 2 * size || chunk.size - size >= MOST_DEAD) {
        const rest: Chunk = {
          region: chunk.region,
          start: chunk.start + size,
          size: chunk.size - size,
          free: true,
          previous: chunk,
          next: chunk.next,
        };
        if (chunk.next) chunk.next.previous = rest;
        chunk.next = rest;
        chunk.size = size;
        put(rest);
      }
      chunk.free = false;
      touch(chunk, bytes);
      return chunk;
    },
    release(chunk) {
      chunk.free = true;
      let joined = chunk;
      const after = chunk.next;
      if (after?.free) {
        take(after);
        absorb(chunk, after);
      }
      const before = chunk.previous;
      if (before?.free) {
        take(before);
        absorb(before, chunk);
        joined = before;
      }
      put(joined);
    },
    touchedBytes: () => touchedPages * PAGE,
  };
}

/** Joins a chunk with its successor. */
function absorb(chunk: Chunk, after: Chunk): void {
  chunk.size += after.size;
  chunk.next = after.next;
  if (after.next) after.next.previous = chunk;
}
