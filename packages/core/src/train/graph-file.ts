import { realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { elementTypes } from "../onnx/element-type.ts";
import type { FileRange, Model, TensorData } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";

/** A serialised graph, and the folder its external weights lie in. */
export interface GraphFile {
  readonly bytes: Uint8Array;
  readonly externalDataFolder?: string;
}

/** A serialised graph in a file of its own. Opened by path it is not held in memory twice. */
export interface GraphPath {
  readonly path: string;
  readonly externalDataFolder?: string;
}

/**
 * What a runtime opens: the path, or the bytes where external data lies in another folder than the file (only graphs
 * that are given as bytes may say where).
 */
export async function openableGraph(graph: GraphFile | GraphPath): Promise<Uint8Array | string> {
  if ("bytes" in graph) return graph.bytes;
  return graph.externalDataFolder === undefined ? graph.path : readFile(graph.path);
}

/** Below this a weight is copied into the graph: a page of memory is 4096 bytes. */
export const EMBED_BELOW = 4096;

/**
 * Serialises a model without copying weights that lie in a file already: the graph points at their place in the
 * original .onnx or .safetensors file, which the engine maps into memory, so several graphs share one copy. External
 * data may live in one folder only; that with most bytes is chosen, and what lies elsewhere (or is not aligned to its
 * element size: compiled kernels may count on that) is embedded. Links are followed first: the engine refuses data behind a symbolic link, and model caches
 * consist of them.
 *
 * @throws PeftError FILE_RANGE when a weight that must be embedded cannot be read; ONNX_LIMIT. A file that is gone is
 *   the file system's own error.
 * @example
 * const { bytes, externalDataFolder } = packGraph(await readModel("minilm/onnx/model.onnx")); // some 100 KB and the folder
 */
export function packGraph(model: Model): GraphFile {
  const bytesIn = new Map<string, number>();
  const canonical = new Map<string, string>();
  const realPath = (path: string): string => {
    let real = canonical.get(path);
    if (real === undefined) {
      real = realpathSync(path);
      canonical.set(path, real);
    }
    return real;
  };
  for (const tensor of model.graph.initializers.values()) {
    const range = referable(tensor);
    if (!range) continue;
    const folder = dirname(realPath(range.path));
    bytesIn.set(folder, (bytesIn.get(folder) ?? 0) + range.length);
  }
  const [folder] = [...bytesIn].sort((a, b) => b[1] - a[1])[0] ?? [];
  const bytes = encodeModel(model, {
    reference: (tensor) => {
      const range = referable(tensor);
      if (!range || folder === undefined) return null;
      const path = realPath(range.path);
      return dirname(path) === folder ? { location: basename(path), offset: range.offset, length: range.length } : null;
    },
  });
  return folder === undefined ? { bytes } : { bytes, externalDataFolder: folder };
}

/** Where a weight lies in a file, if a graph can point at it there. */
export function referable(tensor: TensorData): FileRange | null {
  if (tensor.data instanceof Uint8Array || tensor.data.length < EMBED_BELOW) return null;
  const alignment = Math.max(1, elementTypes[tensor.type].bits / 8);
  return tensor.data.offset % alignment === 0 ? tensor.data : null;
}
