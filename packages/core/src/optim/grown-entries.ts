/** What an optimiser is told of a tensor that has grown. */
export interface SlotGrowth {
  readonly name: string;
  /** The new values, which are updated in place from now on. */
  readonly values: Float32Array;
  readonly dims: readonly number[];
  /** Dimensions before; old entries are at the low end of every axis. */
  readonly before: readonly number[];
  /** Whether the learning rate of the new entries follows the schedule, or stays the initial one. */
  readonly followsSchedule: boolean;
}

/** Entries `start` to `end` that appeared after the same number of updates. */
export interface AgeRange {
  readonly start: number;
  readonly end: number;
  /** Updates done before. */
  readonly born: number;
  readonly followsSchedule: boolean;
}

/** Neighbours of one age together. @param born see `Slot.born` */
export function agesOf(born: Float32Array | null, length: number): AgeRange[] {
  if (!born) return [{ start: 0, end: length, born: 0, followsSchedule: true }];
  const ranges: AgeRange[] = [];
  for (let start = 0; start < length; ) {
    const age = born[start] as number;
    let end = start + 1;
    while (end < length && born[end] === age) end++;
    ranges.push({ start, end, born: Math.abs(age), followsSchedule: age >= 0 });
    start = end;
  }
  return ranges;
}

/**
 * Copies a tensor into the low end of every axis of a larger one, and returns that.
 * @param fromDims row-major, as many axes as `toDims` and none longer.
 */
export function copyCorner(
  from: Float32Array,
  fromDims: readonly number[],
  to: Float32Array,
  toDims: readonly number[],
): Float32Array {
  const row = fromDims.at(-1) ?? 1;
  const rows = row === 0 ? 0 : from.length / row;
  for (let i = 0; i < rows; i++) {
    let [rest, target, stride] = [i, 0, toDims.at(-1) ?? 1];
    for (let axis = fromDims.length - 2; axis >= 0; axis--) {
      const size = fromDims[axis] as number;
      target += (rest % size) * stride;
      rest = Math.floor(rest / size);
      stride *= toDims[axis] as number;
    }
    to.set(from.subarray(i * row, (i + 1) * row), target);
  }
  return to;
}
