import { PeftError } from "../errors.ts";
import { lora } from "../methods/lora.ts";
import type { AdapterTensor } from "../methods/method.ts";
import { poly } from "../methods/poly.ts";
import type { Adapter } from "./adapter.ts";
import { type AdapterConfig, methodConfig, parseAdapterConfig } from "./select.ts";

/** Shares of the skills for a task: [splits, skills]. */
function sharesOf({ dims, data }: AdapterTensor, task: number, skills: number): Float64Array {
  const width = dims[1] ?? 0;
  const shares = new Float64Array(width);
  for (let from = 0; from < width; from += skills) {
    let sum = 0;
    for (let s = from; s < from + skills; s++) {
      shares[s] = 1 / (1 + Math.exp(-(data[task * width + s] as number)));
      sum += shares[s] as number;
    }
    for (let s = from; s < from + skills; s++) shares[s] = (shares[s] as number) / sum;
  }
  return shares;
}

/**
 * The skills [splits, skills, rows, columns] of a module mixed for one task, as a matrix [outer, inner] whose axis `wide` (0: rows, 1: columns)
 * holds the splits one after the other.
 */
function mix({ dims, data }: AdapterTensor, shares: Float64Array, wide: 0 | 1): AdapterTensor {
  const [splits = 1, skills = 1, rows = 1, columns = 1] = dims;
  const [outer, inner] = wide === 0 ? [columns, splits * rows] : [splits * columns, rows];
  const result = new Float64Array(outer * inner);
  for (let q = 0; q < splits; q++) {
    for (let s = 0; s < skills; s++) {
      const share = shares[q * skills + s] as number;
      const from = (q * skills + s) * rows * columns;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          // LoRA's A is [r, in], its B [out, r]: both are transposed here.
          const to = wide === 0 ? j * inner + q * rows + i : (q * columns + j) * inner + i;
          result[to] = (result[to] as number) + share * (data[from + i * columns + j] as number);
        }
      }
    }
  }
  return { dims: [outer, inner], data: Float32Array.from(result) };
}

/**
 * What a Poly adapter does for one task, as a LoRA adapter of the same rank: it merges, swaps and combines like any other.
 * @throws PeftError NOT_POLY; UNKNOWN_TASK
 * @example
 * const merged = mergeAdapter(model, polyTask(adapter, 2));
 */
export function polyTask(adapter: Adapter, task: number): Adapter {
  if (adapter.type !== poly.type) {
    throw new PeftError("NOT_POLY", `Expected a ${poly.type} adapter, received ${adapter.type}.`);
  }
  const { r, nTasks, nSkills } = poly.config.parse(methodConfig(adapter.config)) as ReturnType<
    typeof poly.config.parse
  >;
  if (!Number.isInteger(task) || task < 0 || task >= nTasks) {
    throw new PeftError("UNKNOWN_TASK", `Expected a task from 0 to ${nTasks - 1}, received ${task}.`);
  }
  const ending = `.${poly.keys["logits"]}`;
  const own = new Set(Object.values(poly.keys).map((key) => `.${key}`));
  const tensors = new Map<string, AdapterTensor>();
  for (const [name, tensor] of adapter.tensors) {
    if (![...own].some((key) => name.endsWith(key))) tensors.set(name, tensor);
    if (!name.endsWith(ending)) continue;
    const module = name.slice(0, -ending.length);
    const shares = sharesOf(tensor, task, nSkills);
    for (const [role, wide] of [
      ["A", 0],
      ["B", 1],
    ] as const) {
      const skills = adapter.tensors.get(`${module}.${poly.keys[role]}`);
      if (!skills) throw new PeftError("ADAPTER_MISMATCH", `The adapter has no "${module}.${poly.keys[role]}".`);
      tensors.set(`${module}.${lora.keys[role]}`, mix(skills, shares, wide));
    }
  }
  const targets = Object.fromEntries(
    Object.entries(adapter.config).filter(([key]) => !Object.hasOwn(methodConfig(adapter.config), key)),
  );
  return { type: lora.type, config: parseAdapterConfig(lora, { ...targets, r, alpha: 1 }) as AdapterConfig, tensors };
}
