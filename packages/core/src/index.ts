export { type DifferentiateOptions, type DifferentiationTarget, differentiate } from "./autodiff/differentiate.ts";
export { PeftError, type PeftErrorOptions } from "./errors.ts";
export { float, graphAttribute, tensorAttribute } from "./graph/attributes.ts";
export { type Builder, createBuilder } from "./graph/builder.ts";
export { importGraph, type ImportOptions } from "./graph/import-graph.ts";
export { toModel } from "./graph/to-model.ts";
export {
  activate,
  attentionBias,
  dropoutNode,
  type EncoderNames,
  type EncoderSizes,
  encoderBlock,
  layerNorm,
  linear,
} from "./models/encoder-block.ts";
export { type WeightReader, type Weights, weightReader } from "./models/weights.ts";
export { readSafetensorsFolder } from "./formats/safetensors/folder.ts";
export { readSafetensors } from "./formats/safetensors/read.ts";
export { encodeSafetensors, writeSafetensors } from "./formats/safetensors/write.ts";
export { at } from "./onnx/infer/context.ts";
export type { ElementType } from "./onnx/element-type.ts";
export type { Attribute, Dim, FileRange, Graph, Model, Node, Shape, TensorData, Value, ValueType } from "./onnx/ir.ts";
export { decodeModel } from "./onnx/decode.ts";
export { readModel } from "./onnx/read.ts";
export { readTensorBytes, tensorFrom, toFloat32Array, toNumbers } from "./onnx/tensor.ts";
export { encodeModel, writeModel } from "./onnx/write.ts";
export { createRandom, type Random, streamSeed } from "./random/random.ts";
export { onnxruntimeNode } from "./runtime/onnxruntime-node.ts";
export type { Feeds, OpenOptions, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "./runtime/runtime.ts";
export type { LossParts } from "./losses/loss-parts.ts";
export { buildEvaluationProgram, buildTrainingProgram, type EvaluationProgram, type TrainingProgram } from "./train/program.ts";
export { type Metrics, type TrainEvent, type TrainingData, type TrainingResult, type TrainingRun, train } from "./train/trainer.ts";
export type { TrainOptions, TrainOptionsInput } from "./train/options.ts";
export { lineChart } from "./report/line-chart.ts";
