import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { decodeSafetensors } from "../../formats/safetensors/read.ts";
import type { Model, TensorData } from "../../onnx/ir.ts";
import { readModel } from "../../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../../onnx/tensor.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import type { Adapter } from "../adapter.ts";
import { fromPeft } from "../peft-files.ts";

/** What parity/generators/routers.py ran. */
interface Golden {
  readonly adapters: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly tasks: readonly string[];
  readonly token_tasks: readonly string[];
  readonly arrow: Readonly<Record<string, { top_k: number; router_temperature?: number; use_gks?: boolean }>>;
  readonly xlora: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

const folder = new URL("../../../../../parity/golden/", import.meta.url);
export const goldenRouters = JSON.parse(readFileSync(new URL("routers.json", folder), "utf8")) as Golden;
const { tensors } = decodeSafetensors(readFileSync(new URL("routers.safetensors", folder)));

/** Tensors whose names begin with a prefix and a dot, without it. */
export const goldenUnder = (prefix: string): Map<string, TensorData> =>
  new Map(
    [...tensors].flatMap(([name, tensor]) =>
      name.startsWith(`${prefix}.`) ? [[name.slice(prefix.length + 1), tensor] as const] : [],
    ),
  );

export function goldenTensor(name: string): Float32Array {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`routers.safetensors has no "${name}"`);
  return toFloat32Array(tensor);
}

/** A LoRA adapter of peft. */
export const goldenAdapter = (name: string): Adapter =>
  fromPeft({ config: { peft_type: "LORA", ...goldenRouters.adapters[name] }, tensors: goldenUnder(name) });

/** "input" for BERT, "text" for Llama. */
export const goldenInputs = (prefix: "input" | "text"): Record<string, RuntimeTensor> =>
  Object.fromEntries(
    [...goldenUnder(prefix)].map(([name, tensor]) => [
      name,
      { type: "int64", dims: tensor.dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) },
    ]),
  );

export const goldenModel = (name: string, file: string): Promise<Model> =>
  readModel(fileURLToPath(new URL(`models/${name}/onnx/${file}`, folder)));
