import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { decodeSafetensors, readSafetensors, type Safetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import type { TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import type { Engine } from "./engine.ts";

/** Parameters by name; float32. */
export type Parameters = Readonly<Record<string, RuntimeTensor>>;

/**
 * An engine whose state goes to files and not through the caller: in a process of its own it writes them itself, and the
 * caller's event loop and memory are untouched however large they are.
 */
export interface FileEngine extends Pick<Engine, "step" | "evaluate" | "close"> {
  /** Remembers the parameters as they are now as the best; of several adapters those of the given names. */
  keepBest(names?: readonly string[]): Promise<void>;
  /** A copy of the best parameters; of the current ones where `keepBest` was never called. */
  bestParameters(): Promise<Parameters>;
  /**
   * Writes parameters, optimiser state and best parameters into a folder that exists.
   * @throws PeftError NOT_FINITE, with nothing written.
   */
  save(folder: string): Promise<void>;
  /** Takes up what `save` wrote. */
  restore(folder: string): Promise<void>;
}

const PARAMETERS = "parameters.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const HOOKS = "hooks.safetensors";
const BEST = "best.safetensors";

/** Adds files to an engine. */
export function withFiles(engine: Engine): FileEngine {
  let best: Parameters | null = null;
  const current = async (): Promise<Parameters> => (await engine.state()).parameters;
  return {
    step: engine.step,
    evaluate: engine.evaluate,
    close: engine.close,
    async keepBest(names) {
      const now = await current();
      best = names
        ? { ...best, ...Object.fromEntries(Object.entries(now).filter(([name]) => names.includes(name))) }
        : now;
    },
    async bestParameters() {
      const now = await current();
      return best ? { ...now, ...best } : now;
    },
    async save(folder) {
      const { parameters, optimizer, hooks } = await engine.state();
      await writeParameters(join(folder, PARAMETERS), parameters);
      await writeSafetensors(join(folder, OPTIMIZER), vectors(optimizer));
      if (Object.keys(hooks).length > 0) await writeSafetensors(join(folder, HOOKS), vectors(hooks));
      if (best) await writeParameters(join(folder, BEST), best);
    },
    async restore(folder) {
      await engine.restore({
        parameters: toParameters(await readSafetensors(join(folder, PARAMETERS))),
        optimizer: floatsByName(await readSafetensors(join(folder, OPTIMIZER))),
        hooks: existsSync(join(folder, HOOKS)) ? floatsByName(await readSafetensors(join(folder, HOOKS))) : {},
      });
      const path = join(folder, BEST);
      best = existsSync(path) ? toParameters(await readSafetensors(path)) : null;
    },
  };
}

const vectors = (state: Readonly<Record<string, Float32Array>>) =>
  Object.entries(state).map(([name, data]) => [name, tensorFrom("float32", [data.length], data)] as const);

const floatsByName = ({ tensors }: Safetensors): Record<string, Float32Array> =>
  Object.fromEntries([...tensors].map(([name, tensor]) => [name, toFloat32Array(tensor)]));

/** Writes parameters as a safetensors file, which appears whole or not at all. */
export const writeParameters = (path: string, parameters: Parameters): Promise<void> =>
  writeSafetensors(
    path,
    Object.entries(parameters).map(
      ([name, { dims, data }]) => [name, tensorFrom("float32", dims, data as Float32Array)] as const,
    ),
  );

/**
 * Reads what `writeParameters` wrote, without blocking: the tensors are views of the one buffer that the file was read
 * into, as copying some 10 MB would already cost several milliseconds.
 */
export const readParameters = async (path: string): Promise<Parameters> =>
  toParameters(decodeSafetensors(await readFile(path), path));

const toParameters = ({ tensors }: Safetensors): Parameters =>
  Object.fromEntries(
    [...tensors].map(([name, t]) => [name, { type: "float32" as const, dims: t.dims, data: floatsOf(t) }]),
  );

function floatsOf(tensor: TensorData): Float32Array {
  const { data } = tensor;
  const isView = data instanceof Uint8Array && tensor.type === "float32" && data.byteOffset % 4 === 0;
  return isView ? new Float32Array(data.buffer, data.byteOffset, data.length / 4) : toFloat32Array(tensor);
}
