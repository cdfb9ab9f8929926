import { realpathSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Model, TensorData } from "../onnx/ir.ts";
import { layOut, stage } from "../onnx/write.ts";
import { EMBED_BELOW, referable } from "./graph-file.ts";

/** A model whose weights the engine can map, and the file that was written for it. */
export interface AlignedWeights {
  /** The given model where nothing had to be written. */
  readonly model: Model;
  readonly writtenBytes: number;
  /** Removes the file. Sessions that are open keep what they have mapped; graphs that are opened later would miss it. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Below a tenth of the weights, or a megabyte, copies in each graph cost less than a second file. */
const WORTH_A_FILE = 1_000_000;
const SHARE = 0.1;

/** Bytes of weights that every graph would hold a copy of: in memory, not aligned, or in another folder than most. */
function copiedBytes(model: Model): { readonly copied: number; readonly total: number } {
  const inFolder = new Map<string, number>();
  let total = 0;
  for (const tensor of new Set(model.graph.initializers.values())) {
    if (tensor.data.length < EMBED_BELOW) continue;
    total += tensor.data.length;
    const range = referable(tensor);
    if (!range) continue;
    const folder = dirname(realpathSync(range.path));
    inFolder.set(folder, (inFolder.get(folder) ?? 0) + range.length);
  }
  return { copied: total - Math.max(0, ...inFolder.values()), total };
}

/**
 * Writes the weights of a model into one file, each at an address that the engine can map, where they do not lie so already:
 * weights inside an .onnx file rarely do, and those made in memory never. All graphs that are built from the result then
 * refer to that file, and training, evaluation and serving hold one copy of the weights between them, as pages of a file,
 * and not one each in memory of their own. Costs the time and disk space of the file; weights are copied in pieces of 8 MB.
 *
 * @param beside a path next to which the file's folder is made; default the system's folder for temporary files.
 * @throws PeftError FILE_WRITE, FILE_RANGE
 * @example
 * await using weights = await alignWeights(await readModel("bert/onnx/model.onnx"));
 * const adapted = injectAdapter(weights.model, { method: lora, config: { targetModules: ["query", "value"] } });
 */
export async function alignWeights(model: Model, beside?: string): Promise<AlignedWeights> {
  const { copied, total } = copiedBytes(model);
  if (copied < WORTH_A_FILE || copied < SHARE * total) {
    return { model, writtenBytes: 0, async [Symbol.asyncDispose]() {} };
  }
  const parent = beside === undefined ? tmpdir() : dirname(resolve(beside));
  await mkdir(parent, { recursive: true });
  const folder = await mkdtemp(join(parent, "onnx-peft-weights-"));
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const path = join(realpathSync(folder), "weights.bin");
    const { parts, places } = layOut(model, { fileName: "weights.bin", threshold: EMBED_BELOW });
    await (await stage(path, parts)).commit();
    const moved = (tensor: TensorData): TensorData => {
      const place = places.get(tensor);
      return place ? { ...tensor, data: { path, offset: place.offset, length: place.length } } : tensor;
    };
    const initializers = new Map(Array.from(model.graph.initializers, ([name, tensor]) => [name, moved(tensor)]));
    return {
      model: { ...model, graph: { ...model.graph, initializers } },
      writtenBytes: parts.reduce((sum, { length }) => sum + length, 0),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}
