import { fileURLToPath } from "node:url";
import {
  encodeModel,
  findSites,
  full,
  initialParameters,
  injectAdapter,
  onnxruntimeNode,
  readModel,
  readSafetensors,
  type TensorData,
  tensorFrom,
  toFloat32Array,
} from "@onnx-peft/core";
import { expect, test } from "vitest";
import { buildVit, initialVitWeights, type VitSizes } from "./vit.ts";

/** ViTForImageClassification as transformers builds it from a small config; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../parity/golden/exports/vit", import.meta.url));
const sizes: VitSizes = {
  ...{ imageSize: 16, patchSize: 8, channels: 3, classes: 3 },
  ...{ hiddenSize: 32, intermediateSize: 64, layers: 2, heads: 4 },
};
/** Module paths of the export, and those that transformers had before version 5. */
const renamed: readonly (readonly [RegExp, string])[] = [
  [/layers/, "encoder.layer"],
  [/q_proj/, "attention.query"],
  [/k_proj/, "attention.key"],
  [/v_proj/, "attention.value"],
  [/o_proj/, "output.dense"],
  [/mlp\.fc1/, "intermediate.dense"],
  [/mlp\.fc2/, "output.dense"],
];
const olderName = (name: string): string => renamed.reduce((path, [pattern, by]) => path.replace(pattern, by), name);

/** All weights of the export, matrices as [out, in]. */
async function goldenWeights(): Promise<Map<string, TensorData>> {
  const model = await readModel(`${golden}/model_dynamo.onnx`, { rangeThreshold: 0 });
  const names = findSites(model)
    .filter(({ kind }) => full.kinds.includes(kind))
    .map(({ name }) => name);
  const adapted = injectAdapter(model, { method: full, config: { targetModules: names } });
  const values = initialParameters(adapted, 0);
  const weights = new Map<string, TensorData>(
    adapted.plans.flatMap(({ site, parameters }) =>
      parameters.map(({ name, role, shape }) => {
        const tensor = tensorFrom("float32", shape as number[], values.get(name) as Float32Array);
        return [`${olderName(site.name)}.${role}`, tensor] as const;
      }),
    ),
  );
  for (const name of ["vit.embeddings.cls_token", "vit.embeddings.position_embeddings"])
    weights.set(name, model.graph.initializers.get(name) as TensorData);
  return weights;
}

test("with the weights of a transformers model it has its logits", async () => {
  const { tensors } = await readSafetensors(`${golden}/golden.safetensors`);
  const pixels = tensors.get("input.pixel_values") as TensorData;
  const session = await onnxruntimeNode.open(encodeModel(buildVit(sizes, await goldenWeights())), { threads: 1 });
  const { logits } = await session.run({
    pixel_values: { type: "float32", dims: pixels.dims, data: toFloat32Array(pixels) },
  });
  await session.close();
  const wanted = toFloat32Array(tensors.get("output.logits") as TensorData);
  wanted.forEach((value, i) => {
    expect(logits?.data[i]).toBeCloseTo(value, 5);
  });
});

test("adapters find its modules under transformers' names", () => {
  const names = findSites(buildVit(sizes, initialVitWeights(sizes, 1)))
    .filter(({ kind }) => kind === "linear")
    .map(({ name }) => name.replace("vit.encoder.layer.", ""));
  const each = ["attention.attention.query", "attention.attention.key", "attention.attention.value"];
  const others = ["attention.output.dense", "intermediate.dense", "output.dense"];
  expect(names.sort()).toEqual(
    [...[0, 1].flatMap((layer) => [...each, ...others].map((path) => `${layer}.${path}`)), "classifier"].sort(),
  );
});
