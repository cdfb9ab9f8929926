import type { Infer } from "./context.ts";
import { axisOf, fail, input, intAttribute } from "./context.ts";

/** Statistics have the input's shape with size 1 on the normalised axes (axis and all after it). */
const layerNormalization: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const axis = axisOf(c, intAttribute(c.node, "axis", -1), shape.length);
  const statistics = { type: "float32", shape: shape.map((d, i) => (i < axis ? d : 1)) } as const;
  return [{ type, shape }, statistics, statistics];
};

const rmsNormalization: Infer = (c) => layerNormalization(c).slice(0, 2);

const skipNormalization: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const statistics = { type: "float32", shape: shape.map((d, i) => (i < shape.length - 1 ? d : 1)) } as const;
  return [{ type, shape }, statistics, statistics, { type, shape }];
};

const batchNormalization: Infer = (c) => {
  const { type, shape } = input(c, 0);
  const channels = [shape[1] ?? fail(c, "BatchNormalization needs a channel axis.")];
  return [{ type, shape }, ...[1, 2].map(() => ({ type, shape: channels }))];
};

const sameAsFirst: Infer = (c) => [{ type: input(c, 0).type, shape: input(c, 0).shape }];

const softmaxCrossEntropy: Infer = (c) => {
  const scores = input(c, 0);
  const reduction = c.node.attributes["reduction"];
  const none = reduction?.type === "string" && reduction.value === "none";
  return [
    { type: scores.type, shape: none ? input(c, 1).shape : [] },
    { type: scores.type, shape: scores.shape },
  ];
};

const negativeLogLikelihood: Infer = (c) => softmaxCrossEntropy(c).slice(0, 1);

export const normalizations = {
  LayerNormalization: layerNormalization,
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
  "com.microsoft::SkipLayerNormalization": skipNormalization,
  "com.microsoft::SkipSimplifiedLayerNormalization": skipNormalization,
  BatchNormalization: batchNormalization,
  InstanceNormalization: sameAsFirst,
  GroupNormalization: sameAsFirst,
  LpNormalization: sameAsFirst,
  LRN: sameAsFirst,
  MeanVarianceNormalization: sameAsFirst,
  SoftmaxCrossEntropyLoss: softmaxCrossEntropy,
  NegativeLogLikelihoodLoss: negativeLogLikelihood,
} satisfies Record<string, Infer>;
