import { InferenceSession, type Tensor } from "onnxruntime-node";

/** Outputs of a model in ONNX Runtime, as plain data. */
export async function run(bytes: Uint8Array, feeds: Record<string, Tensor>): Promise<Record<string, unknown>> {
  const session = await InferenceSession.create(bytes);
  const outputs = await session.run(feeds);
  return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims }]));
}
