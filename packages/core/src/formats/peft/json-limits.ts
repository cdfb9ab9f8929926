/** Limits for a value that is kept without being understood. */
export interface JsonLimits {
  /** Texts, numbers, lists, objects; keys are not counted. */
  readonly maxValues: number;
  /** Characters of all texts and keys together. */
  readonly maxCharacters: number;
  readonly maxDepth: number;
}

/** One field of a config: far above what any method of `peft` 0.21 writes, far below what hurts. */
export const fieldLimits: JsonLimits = { maxValues: 100_000, maxCharacters: 2_000_000, maxDepth: 8 };

/**
 * Checks that a value is JSON and within limits. The walk has its own stack, so depth cannot overflow the machine's,
 * and a cycle ends at the depth limit.
 *
 * @returns null, or what is wrong with it.
 */
export function jsonProblem(root: unknown, limits: JsonLimits): string | null {
  const stack: { value: unknown; depth: number }[] = [{ value: root, depth: 0 }];
  let values = 0;
  let characters = 0;
  for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
    const { value, depth } = item;
    if (++values > limits.maxValues) return `more than ${limits.maxValues} values`;
    if (depth > limits.maxDepth) return `more than ${limits.maxDepth} levels`;
    if (typeof value === "string") characters += value.length;
    else if (Array.isArray(value)) {
      if (value.length > limits.maxValues) return `more than ${limits.maxValues} values`;
      for (const child of value) stack.push({ value: child, depth: depth + 1 });
    } else if (typeof value === "object" && value !== null) {
      for (const [key, child] of Object.entries(value)) {
        if (key === "__proto__") return 'a key "__proto__"';
        characters += key.length;
        stack.push({ value: child, depth: depth + 1 });
      }
    } else if (typeof value === "number" ? !Number.isFinite(value) : value !== null && typeof value !== "boolean") {
      return `${typeof value === "number" ? String(value) : typeof value} is not JSON`;
    }
    if (characters > limits.maxCharacters) return `more than ${limits.maxCharacters} characters`;
  }
  return null;
}
