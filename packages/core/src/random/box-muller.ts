/**
 * The Box-Muller transform as PyTorch's AVX2 code computes it: float32 throughout, logarithm, sine and cosine by the polynomials of the
 * Cephes library, a product and a sum in one rounding where the processor's fused instruction does so. Every `round` below is one
 * rounding there; a product of two float32 is exact in double precision.
 */
const round = Math.fround;

const view = new DataView(new ArrayBuffer(4));

function bitsOf(x: number): number {
  view.setFloat32(0, x);
  return view.getInt32(0);
}

function fromBits(bits: number): number {
  view.setInt32(0, bits);
  return view.getFloat32(0);
}

const float32 = (values: readonly number[]): readonly number[] => values.map(round);

const logTerms = float32([
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
]);
const sineTerms = float32([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]);
const cosineTerms = float32([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]);
/** -pi / 4 in three parts. */
const quarterPi = float32([-0.78515625, -2.4187564849853516e-4, -3.774894977445941e-8]);
const perQuarter = round(1.27323954473516);
const rootHalf = round(Math.SQRT1_2);
/** ln 2 in two parts. */
const [lowLog2, highLog2] = [round(-2.1219444e-4), round(0.693359375)];
const twoPi = round(2 * Math.PI);

/** Horner's rule, one rounding a step. */
function polynomial(terms: readonly number[], x: number): number {
  let y = terms[0] as number;
  for (let i = 1; i < terms.length; i++) y = round(y * x + (terms[i] as number));
  return y;
}

/** ln x for x in (0, 1]. */
function log(x: number): number {
  const bits = bitsOf(x);
  let exponent = (bits >>> 23) - 126;
  let m = fromBits((bits & 0x807fffff) | 0x3f000000); // [0.5, 1)
  if (m < rootHalf) {
    exponent--;
    m = round(round(m - 1) + m);
  } else m = round(m - 1);
  const z = round(m * m);
  let y = round(polynomial(logTerms, m) * m);
  y = round(y * z + round(exponent * lowLog2));
  y = round(y - 0.5 * z);
  return round(round(m + y) + exponent * highLog2);
}

/** Sine and cosine of an angle >= 0. */
function sineAndCosine(angle: number): [sine: number, cosine: number] {
  const octant = (Math.trunc(round(angle * perQuarter)) + 1) & ~1;
  let x = angle;
  for (const part of quarterPi) x = round(octant * part + x);
  const z = round(x * x);
  const even = round(polynomial(cosineTerms, z) * z);
  const cosine = round(round(even * z - 0.5 * z) + 1);
  const sine = round(round(polynomial(sineTerms, z) * z) * x + x);
  const [s, c] = (octant & 2) === 0 ? [sine, cosine] : [cosine, sine];
  return [(octant & 4) === 0 ? s : -s, ((octant - 2) & 4) === 0 ? -c : c];
}

/**
 * Turns the 16 uniforms at `start` into normals in place: the first eight give the radii, the last eight the angles. Bit-equal to
 * PyTorch on a processor with AVX2.
 */
export function boxMuller16(values: Float32Array, start: number, mean: number, std: number): void {
  for (let i = start; i < start + 8; i++) {
    const radius = round(Math.sqrt(round(-2 * log(round(1 - (values[i] as number))))));
    const [sine, cosine] = sineAndCosine(round(twoPi * (values[i + 8] as number)));
    values[i] = round(radius * cosine) * std + mean;
    values[i + 8] = round(radius * sine) * std + mean;
  }
}
