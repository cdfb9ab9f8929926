type Vectors = ReadonlyMap<string, Float32Array>;

/** Largest absolute difference; NaN where the lengths differ or a value is NaN, so that every bound on it fails. */
export function largestDifference(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Number.NaN;
  let largest = 0;
  for (let i = 0; i < found.length; i++) {
    const difference = Math.abs((found[i] as number) - (expected[i] as number));
    if (Number.isNaN(difference)) return Number.NaN;
    largest = Math.max(largest, difference);
  }
  return largest;
}

/** Norm of the difference over the norm of what is expected, all tensors as one vector. Both must have the same names. */
export function relativeDifference(found: Vectors, expected: Vectors): number {
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const extra = [...found.keys()].filter((name) => !expected.has(name));
  if (missing.length + extra.length > 0)
    throw new Error(`Tensors differ: missing [${missing.join(", ")}], not expected [${extra.join(", ")}].`);
  let [difference, norm] = [0, 0];
  for (const [name, values] of expected) {
    const own = found.get(name) as Float32Array;
    if (own.length !== values.length) throw new Error(`"${name}" has ${own.length} values, not ${values.length}.`);
    values.forEach((value, i) => {
      difference += ((own[i] as number) - value) ** 2;
      norm += value * value;
    });
  }
  return Math.sqrt(difference / norm);
}
