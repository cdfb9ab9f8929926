import { forWebGpu } from "../lowering/for-webgpu.ts";
import { decodeModel, readModel } from "../onnx/read.ts";
import { packGraph } from "../train/graph-file.ts";

/** A graph as a runtime opens it. */
export interface OpenableGraph {
  readonly model: Uint8Array | string;
  readonly externalDataFolder?: string;
}

/** A graph in the operators that WebGPU has: see {@link forWebGpu}. Weights stay in their files. */
export async function webgpuGraph(given: OpenableGraph): Promise<OpenableGraph> {
  const { model: source, externalDataFolder: folder } = given;
  const model =
    typeof source === "string" ? await readModel(source) : decodeModel(source, folder === undefined ? {} : { folder });
  const rewritten = forWebGpu(model);
  if (rewritten === model) return given;
  const { bytes, ...place } = packGraph(rewritten);
  return { model: bytes, ...place };
}
