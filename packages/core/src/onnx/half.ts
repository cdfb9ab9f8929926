/**
 * Conversions between float32 and the two 16-bit floating types, over bit patterns in integer arithmetic only: a process
 * whose floating unit treats denormals as zero (engine option `set_denormal_as_zero`) still converts them exactly.
 */

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** Bits of the float16 nearest to a float32 (ties to even); overflow gives infinity. */
function float16Bits(x: number): number {
  const sign = (x >>> 16) & 0x8000;
  const a = x & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7e00;
  // 0x477ff000 is 65520, halfway between the largest float16 (65504) and the next step, which is infinity.
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a >= 0x38800000) {
    const rebased = a - 0x38000000; // exponent bias 127 -> 15
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  if (a < 0x33000000) return sign; // below 2^-25: rounds to zero
  const shift = 126 - (a >>> 23); // subnormal: units of 2^-24
  const mantissa = (a & 0x7fffff) | 0x800000;
  const half = 1 << (shift - 1);
  const rest = mantissa & ((1 << shift) - 1);
  const kept = mantissa >>> shift;
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}

/** Bits of the float32 equal to a float16. */
function bitsFromFloat16(h: number): number {
  const sign = (h & 0x8000) << 16;
  const exponent = (h >>> 10) & 31;
  const mantissa = h & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  const lead = 31 - Math.clz32(mantissa); // value = mantissa * 2^-24, normal in float32
  return sign | ((lead + 103) << 23) | ((mantissa << (23 - lead)) & 0x7fffff);
}

/** float32 values to float16 bit patterns, nearest, ties to even. */
export function float32ToFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = bitsOf(values);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = float16Bits(bits[i] as number);
  return out;
}

/** float16 bit patterns to float32 values, exact. */
export function float16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(halves.length);
  const bits = bitsOf(out);
  for (let i = 0; i < out.length; i++) bits[i] = bitsFromFloat16(halves[i] as number);
  return out;
}

/** float32 values to bfloat16 bit patterns, nearest, ties to even. */
export function float32ToBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = bitsOf(values);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const x = bits[i] as number;
    const notANumber = (x & 0x7fffffff) > 0x7f800000;
    out[i] = notANumber ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** bfloat16 bit patterns to float32 values, exact. */
export function bfloat16ToFloat32(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(halves.length);
  const bits = bitsOf(out);
  for (let i = 0; i < out.length; i++) bits[i] = (halves[i] as number) << 16;
  return out;
}
