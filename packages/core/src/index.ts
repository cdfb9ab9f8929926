export {
  type Adapter,
  adapterOf,
  initialParameters,
  parameterTensors,
  type TensorValues,
  trainedCount,
} from "./adapters/adapter.ts";
export { type AdapterSet, createAdapterSet } from "./adapters/adapter-set.ts";
export { applyAdapter, embedAdapter } from "./adapters/apply-adapter.ts";
export { type ArrowOptions, arrowAdapter } from "./adapters/arrow.ts";
export { findAttention } from "./adapters/attention/find-attention.ts";
export { type Combination, type CombineOptions, combineAdapters, type WeightedAdapter } from "./adapters/combine.ts";
export { type ConvertedSite, convertToLora, type LoraConversion, type LoraSize } from "./adapters/convert-to-lora.ts";
export { type DiffuseKronAPart, readDiffuseKronA, writeDiffuseKronA } from "./adapters/diffuse-krona.ts";
export {
  type AdaptedGraph,
  type AdapterPlan,
  adapterValues,
  type InjectOptions,
  injectAdapter,
  trainableValues,
} from "./adapters/inject.ts";
export {
  type InjectSeveralOptions,
  initialSeveral,
  injectSeveral,
  memberAdapter,
  type SeveralAdapted,
  type SeveralChoice,
  type SeveralMember,
} from "./adapters/inject-several.ts";
export { mergeAdapter, unmergeAdapter } from "./adapters/merge.ts";
export { type MixedModel, type MixedOptions, makeMixed, rowFeeds } from "./adapters/mixed.ts";
export {
  createMixedSet,
  type MixedSet,
  type MixedSwappableModel,
  makeMixedSwappable,
} from "./adapters/mixed-set.ts";
export { type Naming, renameSites } from "./adapters/naming.ts";
export type { AdapterParameter } from "./adapters/parameters.ts";
export { fromPeft, type PeftFiles, toPeft } from "./adapters/peft-files.ts";
export { polyTask } from "./adapters/poly-task.ts";
export { BASE_ROWS } from "./adapters/row-segments.ts";
export { type AdapterConfig, type AdapterConfigInput, parseAdapterConfig } from "./adapters/select.ts";
export type { ConvWindow, Site, SiteKind, SiteShape, SublayerShape, SublayerUse } from "./adapters/site.ts";
export { findSites } from "./adapters/sites.ts";
export { adapterFeeds, makeSwappable, type SwappableModel } from "./adapters/swappable.ts";
export { type TargetConfig, targetSites } from "./adapters/targets.ts";
export { triAdaptToLora } from "./adapters/tri-adapt-to-lora.ts";
export { truncateDylora } from "./adapters/truncate-dylora.ts";
export { withExperts, xloraConfigOf } from "./adapters/xlora.ts";
export { readXloraFolder, writeXloraFolder } from "./adapters/xlora-folder.ts";
export { type DifferentiateOptions, type DifferentiationTarget, differentiate } from "./autodiff/differentiate.ts";
export { checkFile } from "./check/check-file.ts";
export type { GradientAgreement, StepTime } from "./check/check-gradients.ts";
export {
  type CheckModelOptions,
  checkModel,
  type KindCheck,
  type ModelCheck,
  type Verdict,
} from "./check/check-model.ts";
export { formatCheck } from "./check/format-check.ts";
export { syntheticInputs } from "./check/synthetic-inputs.ts";
export { atomicWrite, atomicWriteFolder } from "./checkpoint/atomic-write.ts";
export { parseConfig } from "./config/parse-config.ts";
export { shuffle } from "./data/shuffle.ts";
export { type SplitOptions, splitStratified } from "./data/split-stratified.ts";
export { describeModel } from "./describe/describe.ts";
export { formatDescription } from "./describe/format.ts";
export { PeftError, type PeftErrorOptions } from "./errors.ts";
export { decodeOnnxAdapter, type OnnxAdapter } from "./formats/onnx-adapter/decode.ts";
export { encodeOnnxAdapter } from "./formats/onnx-adapter/encode.ts";
export type { PeftCard } from "./formats/peft/card.ts";
export { readPeftFolder } from "./formats/peft/read-folder.ts";
export { writePeftFolder } from "./formats/peft/write-folder.ts";
export { readSafetensorsFolder } from "./formats/safetensors/folder.ts";
export { readSafetensors } from "./formats/safetensors/read.ts";
export { encodeSafetensors, writeSafetensors } from "./formats/safetensors/write.ts";
export { float, graphAttribute, tensorAttribute } from "./graph/attributes.ts";
export { type Builder, createBuilder } from "./graph/builder.ts";
export { type ImportOptions, importGraph } from "./graph/import-graph.ts";
export type {
  ConvOptions,
  GridSampleOptions,
  PerAxis,
  PoolOptions,
  ResizeOptions,
  WindowOptions,
} from "./graph/ops-spatial.ts";
export { toModel } from "./graph/to-model.ts";
export { applyInt8Plan } from "./int8/apply-plan.ts";
export { requireInt8Device } from "./int8/int8-device.ts";
export type { ProductError } from "./int8/measure-errors.ts";
export { createInt8Plan, type Int8Linear, type Int8Plan, type Int8PlanOptions } from "./int8/plan.ts";
export type { Int8Matrix, WeightBits } from "./int8/quantize-columns.ts";
export { createTensorFile, type TensorFile } from "./int8/tensor-file.ts";
export { detectWeightBits } from "./int8/weight-bits.ts";
export { cholesky } from "./linalg/cholesky.ts";
export { circulant, circularConvolution } from "./linalg/circulant.ts";
export { dct2, dctMatrix, idct2 } from "./linalg/dct.ts";
export { expm } from "./linalg/expm.ts";
export { type Complex, fft, ifft } from "./linalg/fft.ts";
export { hadamard, iwht, wht } from "./linalg/hadamard.ts";
export { inverse, type Ldu, type Lu, ldu, luPartialPivot, solve } from "./linalg/lu.ts";
export { diagonal, identity, kron, type Matrix, matrix, matrixFrom, multiply, transpose } from "./linalg/matrix.ts";
export { createMatrixCache, type MatrixCache } from "./linalg/matrix-cache.ts";
export { createLinalgPool, type LinalgPool, type LinalgPoolOptions } from "./linalg/pool.ts";
export { type Qr, qr } from "./linalg/qr.ts";
export { type RandomizedSvdOptions, randomizedSvd } from "./linalg/randomized-svd.ts";
export { type Svd, singularValues, svd } from "./linalg/svd.ts";
export { type SymmetricEigen, symmetricEigen } from "./linalg/symmetric-eigen.ts";
export {
  type RingCore,
  type RingMatrixCore,
  ringChain,
  ringKronecker,
  ringMatrix,
} from "./linalg/tensor-ring.ts";
export { binaryCrossEntropy } from "./losses/binary-cross-entropy.ts";
export { cosineEmbedding } from "./losses/cosine-embedding.ts";
export { crossEntropy } from "./losses/cross-entropy.ts";
export { type DensityOptions, densityLoss } from "./losses/density.ts";
export type { LossParts } from "./losses/loss-parts.ts";
export { maskedLanguageModel } from "./losses/masked-language-model.ts";
export { meanSquaredError } from "./losses/mean-squared-error.ts";
export { multipleNegatives } from "./losses/multiple-negatives.ts";
export { normalizeRows } from "./losses/similarity.ts";
export { suppliedGradient } from "./losses/supplied-gradient.ts";
export { triplet } from "./losses/triplet.ts";
export { bindInputs } from "./lowering/bind-inputs.ts";
export { type BranchChoice, branchChoice } from "./lowering/choose-branches.ts";
export { type FreedModel, type FreedSize, freeSizes } from "./lowering/free-sizes.ts";
export { estimateMemory, type MemoryEstimate, RUNTIME_BYTES } from "./memory/estimate.ts";
export { freeMemory } from "./memory/free-memory.ts";
export { type AdaloraConfig, adalora } from "./methods/adalora.ts";
export { type AdaptionPromptConfig, adaptionPrompt } from "./methods/adaption-prompt.ts";
export { type ArrowConfig, arrow } from "./methods/arrow.ts";
export { beft } from "./methods/beft.ts";
export { bitfit } from "./methods/bitfit.ts";
export { type BoftConfig, boft } from "./methods/boft.ts";
export { type BottleneckConfig, bottleneck } from "./methods/bottleneck.ts";
export { type C3aConfig, c3a } from "./methods/c3a.ts";
export type { Calibration, ComponentSite, Components, DataNeed, SiteData } from "./methods/calibration.ts";
export { methodCatalogue } from "./methods/catalogue/catalogue.ts";
export type { MethodEntry } from "./methods/catalogue/entry.ts";
export { type CompacterConfig, compacter } from "./methods/compacter.ts";
export { type CompositionConfig, mam, unipelt } from "./methods/composition.ts";
export { type DeloraConfig, delora } from "./methods/delora.ts";
export { type DyloraConfig, dylora } from "./methods/dylora.ts";
export type {
  AttentionChange,
  AttentionInput,
  ForwardInput,
  HiddenStates,
  KeysAndValues,
  RowInput,
  SublayerValues,
} from "./methods/forward-input.ts";
export { type FourierFtConfig, fourierFt } from "./methods/fourier-ft.ts";
export { type FrodConfig, frod } from "./methods/frod.ts";
export { full } from "./methods/full.ts";
export { type GloraConfig, glora } from "./methods/glora.ts";
export { type GraloraConfig, gralora } from "./methods/gralora.ts";
export { type HiraConfig, hira } from "./methods/hira.ts";
export { type HraConfig, hra } from "./methods/hra.ts";
export { type HydraConfig, hydra, hydraPresets } from "./methods/hydra.ts";
export { type Ia3Config, ia3 } from "./methods/ia3.ts";
export { type KronAConfig, kronA } from "./methods/kron-a.ts";
export { type LilyConfig, lily } from "./methods/lily.ts";
export { lnTuning } from "./methods/ln-tuning.ts";
export { type LocaConfig, loca } from "./methods/loca.ts";
export { type LohaConfig, loha } from "./methods/loha.ts";
export { type LokrConfig, lokr } from "./methods/lokr.ts";
export { type LolduConfig, loldu } from "./methods/loldu.ts";
export { type LoraConfig, lora } from "./methods/lora.ts";
export {
  type AdapterTensor,
  declared,
  defineMethod,
  type Method,
  type MethodPart,
  noForward,
  parameterCount,
} from "./methods/method.ts";
export { type MissConfig, miss } from "./methods/miss.ts";
export { type MosConfig, mos } from "./methods/mos.ts";
export { type MultitaskPromptTuningConfig, multitaskPromptTuning } from "./methods/multitask-prompt-tuning.ts";
export { type OftConfig, oft } from "./methods/oft.ts";
export { type PTuningConfig, pTuning } from "./methods/p-tuning.ts";
export { type PacaConfig, paca } from "./methods/paca.ts";
export { type PolyConfig, poly } from "./methods/poly.ts";
export { type PrefixTuningConfig, prefixTuning } from "./methods/prefix-tuning.ts";
export { type PromptTuningConfig, promptTuning } from "./methods/prompt-tuning.ts";
export { type PsoftConfig, psoft } from "./methods/psoft.ts";
export { type PveraConfig, pvera } from "./methods/pvera.ts";
export { type QwhaConfig, qwha } from "./methods/qwha.ts";
export { type RandloraConfig, randlora } from "./methods/randlora.ts";
export { composed, listMethods, methodOf } from "./methods/registry.ts";
export { type RoadConfig, road } from "./methods/road.ts";
export { type ShiraConfig, shira } from "./methods/shira.ts";
export type { Growth, HookSetup, HookSite, StepHooks } from "./methods/step-hooks.ts";
export { type SvfConfig, svf } from "./methods/svf.ts";
export { type TinyLoraConfig, tinyLora } from "./methods/tinylora.ts";
export { type TloraConfig, tlora } from "./methods/tlora.ts";
export { type TrainableTokensConfig, trainableTokens } from "./methods/trainable-tokens.ts";
export type { TriAdaptConfig } from "./methods/tri-adapt-config.ts";
export { triAdaptLora } from "./methods/tri-adapt-lora.ts";
export { type UniloraConfig, unilora } from "./methods/unilora.ts";
export { type VbloraConfig, vblora } from "./methods/vblora.ts";
export { type VeraConfig, vera } from "./methods/vera.ts";
export { type WaveFtConfig, waveFt } from "./methods/waveft.ts";
export { type XloraConfig, xlora } from "./methods/xlora.ts";
export { accuracy } from "./metrics/accuracy.ts";
export { confusionMatrix } from "./metrics/confusion-matrix.ts";
export { averageRanks, pearson, spearman } from "./metrics/correlation.ts";
export { type ClassCounts, type F1Score, type F1Scores, f1FromCounts, f1Scores, multiLabelF1 } from "./metrics/f1.ts";
export { matthews } from "./metrics/matthews.ts";
export { meanReciprocalRank, type RetrievalScores, recallAtK, targetRanks } from "./metrics/retrieval.ts";
export {
  type AttentionNames,
  activate,
  attention,
  attentionBias,
  dropoutNode,
  type EncoderNames,
  type EncoderSizes,
  encoderBlock,
  layerNorm,
  linear,
  selfAttention,
  type TokenRows,
} from "./models/encoder-block.ts";
export { type WeightReader, type Weights, weightReader } from "./models/weights.ts";
export { decodeModel } from "./onnx/decode.ts";
export type { ElementType } from "./onnx/element-type.ts";
export { at } from "./onnx/infer/context.ts";
export type { Attribute, Dim, FileRange, Graph, Model, Node, Shape, TensorData, Value, ValueType } from "./onnx/ir.ts";
export { readModel } from "./onnx/read.ts";
export { readTensorBytes, tensorFrom, toFloat32Array, toNumbers } from "./onnx/tensor.ts";
export { encodeModel, writeModel } from "./onnx/write.ts";
export { loraPlusGroups } from "./optim/lora-plus.ts";
export type { OptimizerInput, ParameterGroup } from "./optim/optimizer-config.ts";
export { learningRateAt } from "./optim/schedule.ts";
export { dequantized } from "./quantization/dequantize.ts";
export { type PackedWeight, packedWeightOf } from "./quantization/packed-weight.ts";
export {
  type QuantizedModel,
  type QuantizedSite,
  type QuantizeModelOptions,
  quantizeModel,
} from "./quantization/quantize-model.ts";
export type { Seed } from "./random/hash-seed.ts";
export { createRandom, type Random, streamSeed } from "./random/random.ts";
export { torchRandom } from "./random/torch-random.ts";
export { barChart } from "./report/bar-chart.ts";
export { confusionMatrixChart } from "./report/confusion-matrix-chart.ts";
export { htmlReport } from "./report/html-report.ts";
export { lineChart } from "./report/line-chart.ts";
export { type ScatterChartOptions, type ScatterPoint, scatterChart } from "./report/scatter-chart.ts";
export { type Device, onDevice } from "./runtime/device.ts";
export { onnxruntimeNode } from "./runtime/onnxruntime-node.ts";
export type { Placement } from "./runtime/placement.ts";
export type { Feeds, OpenOptions, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "./runtime/runtime.ts";
export {
  type ActivationDensity,
  type ActivationDensityOptions,
  activationDensity,
} from "./train/activation-density.ts";
export { type AdapterProgramOptions, buildAdapterProgram } from "./train/adapter-program.ts";
export { type AlignedWeights, alignWeights } from "./train/aligned-weights.ts";
export { type CalibrateOptions, calibrate } from "./train/calibrate.ts";
export {
  type CalibratedStart,
  type CalibrateStartOptions,
  type CalibrationEvent,
  calibrateStart,
  startNeedsData,
} from "./train/calibration/calibrate-start.ts";
export { estimateRun } from "./train/check-memory.ts";
export { type DensityPenaltyOptions, densityPenalty } from "./train/density-penalty.ts";
export { createEngine, type Engine, type EngineSetup } from "./train/engine.ts";
export { createEngineProcess } from "./train/engine-process.ts";
export type { FeedBatches } from "./train/feed-batches.ts";
export {
  type CachedGradients,
  type CachedTower,
  type GradientCache,
  type GradientCacheOptions,
  openGradientCache,
} from "./train/gradient-cache.ts";
export type { Statistic } from "./train/input-statistics.ts";
export { peakRss } from "./train/memory.ts";
export { readMetrics } from "./train/metrics-log.ts";
export { type MicroBatchPlan, planMicroBatches } from "./train/micro-batches.ts";
export type { TrainOptions, TrainOptionsInput } from "./train/options.ts";
export type { Penalty } from "./train/penalty.ts";
export { type CalibratedPlan, int8Event, LARGEST_ERROR, type PlanInt8Options, planInt8 } from "./train/plan-int8.ts";
export { withPooledMasks } from "./train/pooled-masks.ts";
export type { Axes } from "./train/prefix/find-cut.ts";
export { type SplitProgram, type SplitProgramOptions, splitProgram } from "./train/prefix/split-program.ts";
export {
  buildEvaluationProgram,
  buildTrainingProgram,
  type EvaluationProgram,
  type TrainingProgram,
} from "./train/program.ts";
export { withRecomputation } from "./train/recompute.ts";
export {
  type ModuleSearch,
  type ModuleSearchResult,
  type SearchLook,
  searchModules,
} from "./train/search/module-search.ts";
export type { ModuleTable } from "./train/search/module-table.ts";
export type { DifforaInput } from "./train/search/search-options.ts";
export type { StartTensor } from "./train/search/search-result.ts";
export { buildSeveralEvaluation, buildSeveralProgram } from "./train/several-program.ts";
export { type SeveralRun, type SeveralTraining, trainSeveral } from "./train/train-several.ts";
export {
  type DeviceEvent,
  type Int8Event,
  type Metrics,
  type PrefixEvent,
  type TrainEvent,
  type TrainingData,
  type TrainingResult,
  type TrainingRun,
  train,
} from "./train/trainer.ts";
