import { PeftError } from "../errors.ts";
import { type Matrix, matrix, scale } from "../linalg/matrix.ts";
import type { Adapter } from "./adapter.ts";
import { type LoraModule, loraModules } from "./lora-modules.ts";

/** LoRA factors of one module: A [r, in] and B [out, r]. */
export interface Factors {
  readonly A: Matrix;
  readonly B: Matrix;
}

/** What several LoRA adapters do at one linear module, in the adapters' order; null where one does nothing. */
export interface ModuleExperts {
  readonly module: string;
  readonly list: readonly ((Factors & { readonly scale: number }) | null)[];
}

const isLinear = ({ names, tails }: LoraModule): boolean =>
  names[0].endsWith("lora_A.weight") && tails[0].length === 1 && tails[1].length === 0;

/**
 * The modules of several LoRA adapters, one entry for each that any of them changes.
 * @throws PeftError NO_EXPERTS; NOT_LORA also for modules that are not linear, EXPERT_HEAD for adapters that save whole modules
 */
export function moduleExperts(adapters: readonly Adapter[]): ModuleExperts[] {
  if (adapters.length === 0) throw new PeftError("NO_EXPERTS", "Expected at least one LoRA adapter, received none.");
  const all = adapters.map((adapter) => loraModules(adapter));
  const heads = all.flatMap(({ saved }) => [...saved.keys()]);
  if (heads.length > 0) {
    throw new PeftError(
      "EXPERT_HEAD",
      `The adapters hold whole modules: ${[...new Set(heads)].slice(0, 8).join(", ")}.`,
      {
        hint: "A router chooses between updates; train the head beside it, or leave it out.",
      },
    );
  }
  return [...new Set(all.flatMap(({ modules }) => [...modules.keys()]))].map((module) => ({
    module,
    list: all.map(({ modules }) => {
      const found = modules.get(module);
      if (!found) return null;
      if (!isLinear(found))
        throw new PeftError("NOT_LORA", `"${module}" is no linear module, and routers adapt no others.`);
      return { A: found.A, B: found.B, scale: found.scale };
    }),
  }));
}

/** The largest rank. */
export const largestRank = (modules: readonly ModuleExperts[]): number =>
  Math.max(...modules.flatMap(({ list }) => list.map((factors) => factors?.A.rows ?? 0)));

/** A matrix with rows and columns of zeros behind its own. */
function padded({ rows, columns, data }: Matrix, toRows: number, toColumns: number): Matrix {
  const result = matrix(toRows, toColumns);
  for (let i = 0; i < rows; i++) result.data.set(data.subarray(i * columns, (i + 1) * columns), i * toColumns);
  return result;
}

/** A [experts, r, in] and B [experts, out, r] of a module, scales in B, zeros where an adapter does nothing. */
export function stackedFactors({ list }: ModuleExperts, r: number): Readonly<Record<"A" | "B", Float32Array>> {
  const known = list.find((factors) => factors !== null);
  const [inFeatures, outFeatures] = [known?.A.columns ?? 0, known?.B.rows ?? 0];
  const A = new Float32Array(list.length * r * inFeatures);
  const B = new Float32Array(list.length * outFeatures * r);
  for (const [e, factors] of list.entries()) {
    if (!factors) continue;
    A.set(padded(factors.A, r, inFeatures).data, e * r * inFeatures);
    B.set(padded(scale(factors.B, factors.scale), outFeatures, r).data, e * outFeatures * r);
  }
  return { A, B };
}
