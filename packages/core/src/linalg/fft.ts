import { PeftError } from "../errors.ts";

/** Complex numbers as two lists. */
export interface Complex {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

const complex = (n: number): Complex => ({ re: new Float64Array(n), im: new Float64Array(n) });

/** In place, for a power of two: bit reversal, then butterflies with exact twiddles from a table. */
function radixTwo({ re, im }: Complex): void {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; (j & bit) !== 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j] as number, re[i] as number];
      [im[i], im[j]] = [im[j] as number, im[i] as number];
    }
  }
  const half = n / 2;
  const cos = new Float64Array(half);
  const sin = new Float64Array(half);
  for (let i = 0; i < half; i++) {
    cos[i] = Math.cos((2 * Math.PI * i) / n);
    sin[i] = -Math.sin((2 * Math.PI * i) / n);
  }
  for (let size = 2; size <= n; size *= 2) {
    const step = n / size;
    for (let start = 0; start < n; start += size) {
      for (let i = start, t = 0; i < start + size / 2; i++, t += step) {
        const k = i + size / 2;
        const [c, s] = [cos[t] as number, sin[t] as number];
        const x = c * (re[k] as number) - s * (im[k] as number);
        const y = c * (im[k] as number) + s * (re[k] as number);
        re[k] = (re[i] as number) - x;
        im[k] = (im[i] as number) - y;
        re[i] = (re[i] as number) + x;
        im[i] = (im[i] as number) + y;
      }
    }
  }
}

/** Any length as a convolution of a power of two (Bluestein 1970): jk = (j² + k² - (j - k)²) / 2. */
function bluestein(input: Complex): Complex {
  const n = input.re.length;
  let size = 1;
  while (size < 2 * n - 1) size *= 2;
  const chirp = complex(n);
  for (let i = 0; i < n; i++) {
    // i² modulo 2n keeps the angle exact for long inputs.
    const angle = (Math.PI * Number((BigInt(i) * BigInt(i)) % BigInt(2 * n))) / n;
    chirp.re[i] = Math.cos(angle);
    chirp.im[i] = -Math.sin(angle);
  }
  const [a, b] = [complex(size), complex(size)];
  for (let i = 0; i < n; i++) {
    const [c, s] = [chirp.re[i] as number, chirp.im[i] as number];
    const [x, y] = [input.re[i] as number, input.im[i] as number];
    a.re[i] = x * c - y * s;
    a.im[i] = x * s + y * c;
    b.re[i] = c;
    b.im[i] = -s;
    if (i > 0) {
      b.re[size - i] = c;
      b.im[size - i] = -s;
    }
  }
  radixTwo(a);
  radixTwo(b);
  const product = multiplyComplex(a, b);
  const convolved = inverseRadixTwo(product);
  const out = complex(n);
  for (let i = 0; i < n; i++) {
    const [c, s] = [chirp.re[i] as number, chirp.im[i] as number];
    const [x, y] = [convolved.re[i] as number, convolved.im[i] as number];
    out.re[i] = x * c - y * s;
    out.im[i] = x * s + y * c;
  }
  return out;
}

function inverseRadixTwo({ re, im }: Complex): Complex {
  const n = re.length;
  const swapped = { re: im, im: re };
  radixTwo(swapped);
  return { re: re.map((x) => x / n), im: im.map((x) => x / n) };
}

const isPowerOfTwo = (n: number): boolean => (n & (n - 1)) === 0;

/** Entry by entry product. */
export function multiplyComplex(a: Complex, b: Complex): Complex {
  const out = complex(a.re.length);
  for (let i = 0; i < a.re.length; i++) {
    const [x, y] = [a.re[i] as number, a.im[i] as number];
    const [u, v] = [b.re[i] as number, b.im[i] as number];
    out.re[i] = x * u - y * v;
    out.im[i] = x * v + y * u;
  }
  return out;
}

/**
 * Discrete Fourier transform X_k = sum_j x_j exp(-2 pi i j k / n) of any length, n log n operations.
 * @throws PeftError SHAPE_MISMATCH when the two lists differ in length.
 */
export function fft({ re, im }: Complex): Complex {
  if (re.length !== im.length) {
    throw new PeftError("SHAPE_MISMATCH", `expected lists of one length, received ${re.length} and ${im.length}.`);
  }
  const copy = { re: Float64Array.from(re), im: Float64Array.from(im) };
  if (re.length < 2) return copy;
  if (!isPowerOfTwo(re.length)) return bluestein(copy);
  radixTwo(copy);
  return copy;
}

/** The inverse of {@link fft}, divided by n. */
export function ifft({ re, im }: Complex): Complex {
  const n = Math.max(1, re.length);
  const { re: y, im: x } = fft({ re: im, im: re });
  return { re: x.map((v) => v / n), im: y.map((v) => v / n) };
}

/** {@link fft} of real numbers. */
export const realFft = (x: ArrayLike<number>): Complex =>
  fft({ re: Float64Array.from(x), im: new Float64Array(x.length) });
