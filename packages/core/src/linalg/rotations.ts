import type { Kernels } from "./kernels.ts";

/** Sweeps that are put off and applied together. */
const sweeps = 32;
/** Columns of a panel: 64 doubles of a row are 512 bytes, and a panel of 1000 rows stays in the second cache. */
const panel = 64;

/**
 * Plane rotations of neighbouring rows, in the order in which an implicit QR iteration makes them, kept back and applied to
 * whole panels: the rows are read once for 32 sweeps and not once for each.
 */
export class RowRotations {
  readonly #kernels: Kernels;
  readonly #data: Float64Array;
  readonly #columns: number;
  readonly #cosines: Float64Array;
  readonly #sines: Float64Array;
  /** First row and number of rotations of each sweep. */
  readonly #starts = new Int32Array(sweeps);
  readonly #counts = new Int32Array(sweeps);
  #sweep = -1;
  #size = 0;

  constructor(kernels: Kernels, data: Float64Array, rows: number, columns: number) {
    this.#kernels = kernels;
    this.#data = data;
    this.#columns = columns;
    this.#cosines = new Float64Array(sweeps * Math.max(1, rows));
    this.#sines = new Float64Array(sweeps * Math.max(1, rows));
  }

  /** Begins a sweep: its rotations act on rows `start` and `start + 1`, then on the next two, and so on. */
  begin(start: number): void {
    if (this.#sweep === sweeps - 1) this.flush();
    this.#sweep++;
    this.#starts[this.#sweep] = start;
    this.#counts[this.#sweep] = 0;
  }

  /** The next rotation of the sweep: (x, y) becomes (c x + s y, c y - s x). */
  add(c: number, s: number): void {
    this.#cosines[this.#size] = c;
    this.#sines[this.#size] = s;
    this.#size++;
    this.#counts[this.#sweep] = (this.#counts[this.#sweep] as number) + 1;
  }

  /** Applies what was kept back. */
  flush(): void {
    for (let left = 0; left < this.#columns; left += panel) this.#apply(left, Math.min(this.#columns, left + panel));
    this.#sweep = -1;
    this.#size = 0;
  }

  #apply(left: number, right: number): void {
    const [kernels, data, columns, cosines, sines] = [
      this.#kernels,
      this.#data,
      this.#columns,
      this.#cosines,
      this.#sines,
    ];
    let at = 0;
    for (let sweep = 0; sweep <= this.#sweep; sweep++) {
      let row = this.#starts[sweep] as number;
      const end = at + (this.#counts[sweep] as number);
      // Two rotations at a time share the row between them.
      for (; at + 1 < end; at += 2, row += 2) {
        const p = row * columns + left;
        const [c, s] = [cosines[at] as number, sines[at] as number];
        const [d, t] = [cosines[at + 1] as number, sines[at + 1] as number];
        kernels.rotateTwice(data, p, p + columns, p + 2 * columns, right - left, c, s, d, t);
      }
      if (at < end) {
        const p = row * columns + left;
        kernels.rotate(data, p, p + columns, right - left, cosines[at] as number, sines[at] as number);
        at++;
      }
    }
  }
}
