import * as ort from "onnxruntime-node";
import { PeftError } from "../errors.ts";
import { deviceUnavailable } from "./device-unavailable.ts";
import { observePlacement } from "./observe-placement.ts";
import type { Feeds, OpenOptions, Outputs, Runtime, RuntimeSession, RuntimeTensor } from "./runtime.ts";

/**
 * ONNX Runtime in Node. Sessions run sequentially without memory patterns (they keep every intermediate alive);
 * denormals count as zero, which the first session of a process decides for all: a MatMul over denormals is 170 times
 * slower. `run` blocks its thread: see `train/` for the worker around it.
 */
export const onnxruntimeNode: Runtime = {
  name: "onnxruntime-node",
  async open(model, options = {}) {
    if (!options.recordPlacement) return wrap(await create(model, options));
    return observePlacement(async (profile) => {
      const session = await create(model, { ...options, profile });
      return { ...wrap(session), endProfiling: () => session.endProfiling() };
    });
  },
};

/**
 * Rewrites that training sessions do without. They apply where nobody else reads a value, and change the last bits of
 * results: with them a graph that recomputes activations would not train exactly as one that keeps them.
 */
const FUSIONS = [
  "AttentionFusion",
  "BiasGeluFusion",
  "BiasSoftmaxFusion",
  "BiasSkipLayerNormFusion",
  "ConvActivationFusion",
  "DivMulFusion",
  "EmbedLayerNormFusion",
  "FastGeluFusion",
  "GeluFusionL1",
  "GeluFusionL2",
  "GemmActivationFusion",
  "GemmSumFusion",
  "GemmTransposeFusion",
  "LayerNormFusionL1",
  "LayerNormFusionL2",
  "MatMulActivationFusion",
  "MatMulAddFusion",
  "MatMulScaleFusion",
  "MatmulTransposeFusion",
  "QuickGeluFusion",
  "SimplifiedLayerNormFusion",
  "SkipLayerNormFusion",
];

async function create(model: Uint8Array | string, options: OpenOptions): Promise<ort.InferenceSession> {
  const settings: Record<string, string> = { set_denormal_as_zero: "1" };
  if (!(options.packWeights ?? options.purpose === "serving")) settings["disable_prepacking"] = "1";
  if (options.externalDataFolder !== undefined) {
    settings["model_external_initializers_file_folder_path"] = options.externalDataFolder;
  }
  // CUDA's arena doubles as it grows. Weights of their own size beside it: 1.3 GB in the place of 1.7 in `npm run bench:device`.
  if (options.providers?.includes("cuda")) settings["use_device_allocator_for_initializers"] = "1";
  const sessionOptions: ort.InferenceSession.SessionOptions = {
    executionProviders: [...(options.providers ?? ["cpu"])],
    executionMode: "sequential",
    enableMemPattern: options.memoryPattern ?? false,
    logSeverityLevel: options.quiet ? 4 : 3,
    extra: {
      session: { ...settings, ...options.settings },
      ...(options.purpose === "serving" || options.purpose === "evaluation"
        ? {}
        : { optimization: { disable_specified_optimizers: FUSIONS.join(";") } }),
    },
    ...(options.threads === undefined ? {} : { intraOpNumThreads: options.threads }),
    ...(options.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profile }),
  };
  // The binding leaves out providers it was built without, with a line on the console.
  const built = new Set(ort.listSupportedBackends().map(({ name }) => name));
  const absent = options.providers?.find((provider) => !built.has(provider));
  if (absent !== undefined) throw deviceUnavailable(absent, `it was built with [${[...built].join(", ")}]`);
  try {
    if (typeof model === "string") return await ort.InferenceSession.create(model, sessionOptions);
    return await ort.InferenceSession.create(model, sessionOptions);
  } catch (cause) {
    const [provider = "cpu"] = options.providers ?? [];
    if (provider !== "cpu") {
      // Imported when it is needed: the process that trains otherwise does without the modules that build graphs.
      const { providerStarts } = await import("./provider-starts.ts");
      if (!(await providerStarts(provider))) throw deviceUnavailable(provider, cause);
    }
    throw new PeftError(
      "RUNTIME_OPEN",
      `ONNX Runtime refused the graph: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

function wrap(session: ort.InferenceSession): RuntimeSession {
  const known = new Set(session.inputNames);
  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    async run(feeds, outputs) {
      checkFeeds(feeds, known);
      const tensors: Record<string, ort.Tensor> = {};
      for (const [name, tensor] of Object.entries(feeds)) tensors[name] = toOrt(tensor);
      try {
        const results = outputs ? await session.run(tensors, [...outputs]) : await session.run(tensors);
        const named: Outputs = {};
        for (const [name, tensor] of Object.entries(results)) named[name] = fromOrt(tensor);
        return named;
      } catch (cause) {
        throw new PeftError(
          "RUNTIME_RUN",
          `ONNX Runtime failed: ${cause instanceof Error ? cause.message : String(cause)}`,
          { cause },
        );
      }
    },
    async close() {
      await session.release();
    },
  };
}

/** The engine ignores unknown feeds without a word and names one missing feed at a time; this names all of both. */
function checkFeeds(feeds: Feeds, known: ReadonlySet<string>): void {
  const unknown = Object.keys(feeds).filter((name) => !known.has(name));
  const missing = [...known].filter((name) => !Object.hasOwn(feeds, name));
  if (unknown.length > 0 || missing.length > 0) {
    throw new PeftError(
      "FEED_NAMES",
      `Feeds do not fit the graph: unknown [${unknown.join(", ")}], missing [${missing.join(", ")}].`,
      {
        hint: `The graph takes [${[...known].join(", ")}].`,
      },
    );
  }
}

const toOrt = ({ type, data, dims }: RuntimeTensor): ort.Tensor =>
  new ort.Tensor(type as "float32", data as Float32Array, [...dims]);

const fromOrt = (tensor: ort.Tensor): RuntimeTensor => ({
  type: tensor.type as RuntimeTensor["type"],
  dims: tensor.dims,
  data: tensor.data as RuntimeTensor["data"],
});
