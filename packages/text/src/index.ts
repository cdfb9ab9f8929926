// What every fine-tuning program needs of core, so that one package is enough.
export {
  type Adapter,
  bitfit,
  type DensityPenaltyOptions,
  densityPenalty,
  full,
  type LoraConfig,
  lnTuning,
  lora,
  type Metrics,
  type ParameterGroup,
  PeftError,
  type Penalty,
  type SplitOptions,
  splitStratified,
  type TrainEvent,
  type TrainingResult,
  type TrainOptionsInput,
} from "@onnx-peft/core";
export type { EncodeOptions } from "./data/encode-options.ts";
export { encodeClassification, encodeEmbedding } from "./data/encode-samples.ts";
export { buildLabelMap, type LabelMap, labelId, multiHot } from "./data/label-map.ts";
export type { DataLimits } from "./data/limits.ts";
export {
  type LabelKinds,
  loadTextDataset,
  streamTextDataset,
  type TextColumns,
  type TextDatasetOptions,
  type TextRow,
} from "./data/load-text-dataset.ts";
export {
  loadTokenDataset,
  streamTokenDataset,
  type TokenDatasetOptions,
  type TokenRow,
} from "./data/load-token-dataset.ts";
export { loadTokenizer } from "./data/load-tokenizer.ts";
export type { CsvOptions } from "./data/read-csv.ts";
export { type StreamBatchOptions, streamBatches } from "./data/stream-batches.ts";
export type { DataFormat, SourceOptions } from "./data/stream-dataset.ts";
export { encodeRows, type TextInput } from "./data/tokenize.ts";
export { type EncodedWords, encodeTokenRows } from "./data/tokenize-words.ts";
export { type Entity, entitiesOf, type TagScheme } from "./metrics/entities.ts";
export { type EntityF1, entityF1 } from "./metrics/entity-f1.ts";
export { architectureOf, buildEncoder } from "./models/build-encoder.ts";
export type { EncoderArchitecture, Head } from "./models/encoder.ts";
export { type ModelSource, modelFolder } from "./models/fetch-model.ts";
export { type BertSizes, initialBertWeights } from "./models/initial-weights.ts";
export { loadTextModel, type TextModel } from "./models/load-text-model.ts";
export { type DeftComparison, type DeftOptions, type DeftRun, deft } from "./recipes/deft.ts";
export { type DifforaOptions, type DifforaResult, diffora } from "./recipes/diffora.ts";
export type { StartDataOptions } from "./tasks/data-start.ts";
export { type FineTuned, type FineTuneOptions, fineTune, startValues } from "./tasks/fine-tune.ts";
export { type EncodedText, padBatch } from "./tasks/pad-batch.ts";
export { type EngineOptions, openPredictor, type Predictor } from "./tasks/predictor.ts";
export { argMax, predictionRows } from "./tasks/run-task.ts";
export { type SavedResult, type SaveOptions, saveResult } from "./tasks/save-result.ts";
export {
  type EmbeddingSample,
  meanPooled,
  type SentenceEmbeddingOptions,
  sentenceEmbedding,
} from "./tasks/sentence-embedding.ts";
export {
  type ClassificationSample,
  type SequenceClassificationOptions,
  sequenceClassification,
} from "./tasks/sequence-classification.ts";
export type { BatchPrediction, TaskGraph, TextTask } from "./tasks/task.ts";
export { taskGraph } from "./tasks/task-graph.ts";
export {
  type TaggedSample,
  type TokenClassificationOptions,
  tokenClassification,
} from "./tasks/token-classification.ts";
export { withTaskIds } from "./tasks/with-task-ids.ts";
