export { architectureOf, buildEncoder } from "./models/build-encoder.ts";
export type { Head } from "./models/encoder.ts";
export { type ModelSource, modelFolder } from "./models/fetch-model.ts";
export { loadTextModel, type TextModel } from "./models/load-text-model.ts";
