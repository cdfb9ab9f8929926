import { PeftError } from "../errors.ts";
import { type Matrix, matrix } from "../linalg/matrix.ts";
import { full } from "../methods/full.ts";
import { type LoraConfig, lora, loraScale } from "../methods/lora.ts";
import { type AdapterTensor, type Method, siteConfig } from "../methods/method.ts";
import type { Adapter } from "./adapter.ts";
import { inPeftForm } from "./peft-files.ts";
import { type AdapterConfig, type AdapterConfigInput, methodConfig } from "./select.ts";
import { patternValue } from "./targets.ts";

/** One module of a LoRA adapter: its update is scale·B·A. */
export interface LoraModule {
  /** Names of the two tensors. */
  readonly names: readonly [A: string, B: string];
  /** A [r, in] and B [out, r]; all but the first axes of A, and of a convolution's B, flattened. */
  readonly A: Matrix;
  readonly B: Matrix;
  /** Dimensions of A behind the rank, and of B behind out and rank. */
  readonly tails: readonly [A: readonly number[], B: readonly number[]];
  readonly scale: number;
}

const pairs = [
  ["A", "B"],
  ["embeddingA", "embeddingB"],
] as const;

const flattened = ({ dims, data }: AdapterTensor): Matrix => matrix(dims[0] ?? 0, data.length / (dims[0] || 1), data);

/** Splits "<module>.<key>" at a key of the method; null for a name without one. */
function split(name: string, method: Method): { readonly site: string; readonly role: string } | null {
  const found = Object.entries(method.keys).find(([, key]) => name.endsWith(`.${key}`));
  return found ? { site: name.slice(0, -found[1].length - 1), role: found[0] } : null;
}

/**
 * The modules of a LoRA adapter by name, and its tensors of modules that are saved as a whole.
 * @throws PeftError NOT_LORA for other methods, DoRA, LoRA with a bias and grouped convolutions; ADAPTER_MISMATCH for a factor without
 *   the other one
 */
export function loraModules(original: Adapter): {
  readonly modules: ReadonlyMap<string, LoraModule>;
  readonly saved: ReadonlyMap<string, AdapterTensor>;
} {
  if (original.type !== lora.type) {
    throw new PeftError("NOT_LORA", `Expected LoRA adapters, received a ${original.type} adapter.`, {
      hint: "Convert it first: convertToLora(model, adapter, { rank }).",
    });
  }
  const adapter = inPeftForm(original);
  if ((adapter.config.targetParameters ?? []).length > 0) {
    throw new PeftError("NOT_LORA", "The adapter changes parameters of experts, which are not combined.", {
      hint: "Merge the adapters into the model one after the other.",
    });
  }
  const config = methodConfig(adapter.config as AdapterConfig<LoraConfig>);
  const saved = new Map<string, AdapterTensor>();
  const names = new Map<string, Map<string, string>>();
  for (const [name, tensor] of adapter.tensors) {
    const own = split(name, lora);
    if (!own && split(name, full)) saved.set(name, tensor);
    if (!own) continue;
    names.set(own.site, (names.get(own.site) ?? new Map<string, string>()).set(own.role, name));
  }
  const modules = new Map<string, LoraModule>();
  for (const [site, roles] of names) {
    const [a, b] = pairs.find(([role]) => roles.has(role)) ?? pairs[0];
    const more = [...roles.keys()].filter((role) => role !== a && role !== b);
    if (more.length > 0) throw unsuitable(site, `it has ${more.map((role) => lora.keys[role]).join(", ")}`);
    const [nameA = "", nameB = ""] = [roles.get(a), roles.get(b)];
    const [tensorA, tensorB] = [adapter.tensors.get(nameA), adapter.tensors.get(nameB)];
    if (!tensorA || !tensorB) {
      throw new PeftError("ADAPTER_MISMATCH", `"${site}" has one of the two factors of LoRA and lacks the other.`);
    }
    const [A, B] = [flattened(tensorA), flattened(tensorB)];
    if (A.rows !== B.columns) {
      throw unsuitable(site, `A is [${tensorA.dims.join(", ")}] and B is [${tensorB.dims.join(", ")}]`);
    }
    modules.set(site, {
      names: [nameA, nameB],
      A,
      B,
      tails: [tensorA.dims.slice(1), tensorB.dims.slice(2)],
      scale: loraScale(siteConfig(lora, config, site, patternValue)),
    });
  }
  return { modules, saved };
}

const unsuitable = (site: string, reason: string): PeftError =>
  new PeftError("NOT_LORA", `The update of "${site}" is no plain product: ${reason}.`, {
    hint: "DoRA, biases and convolutions in groups cannot be combined; of linear modules convertToLora makes plain ones.",
  });

/**
 * Modules that are saved as a whole by at most one adapter.
 * @throws PeftError COMBINE_SAVED naming those that several adapters save
 */
export function savedOnce(all: readonly ReadonlyMap<string, AdapterTensor>[]): Map<string, AdapterTensor> {
  const kept = new Map<string, AdapterTensor>();
  const twice = new Set<string>();
  for (const [name, tensor] of all.flatMap((saved) => [...saved])) {
    if (kept.has(name)) twice.add(name);
    kept.set(name, tensor);
  }
  if (twice.size > 0) {
    throw new PeftError("COMBINE_SAVED", `Several adapters hold ${[...twice].slice(0, 8).join(", ")}.`, {
      hint: "Heads of different tasks cannot be combined; leave out all but one of them.",
    });
  }
  return kept;
}

/** Fields that the adapters agree on, and the modules that any of them saves. */
export function commonFields(adapters: readonly Adapter[]): AdapterConfigInput {
  const agreed = <T>(values: readonly (T | undefined)[]): T | undefined =>
    values.every((v) => v === values[0]) ? values[0] : undefined;
  const taskType = agreed(adapters.map(({ config }) => config.taskType));
  const base = agreed(adapters.map(({ config }) => config.baseModelNameOrPath));
  const saved = [...new Set(adapters.flatMap(({ config }) => config.modulesToSave ?? []))];
  return {
    ...(taskType ? { taskType } : {}),
    ...(base ? { baseModelNameOrPath: base } : {}),
    ...(saved.length > 0 ? { modulesToSave: saved } : {}),
  };
}
