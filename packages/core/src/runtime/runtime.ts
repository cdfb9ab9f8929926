import type { ElementType } from "../onnx/element-type.ts";
import type { Placement } from "./placement.ts";

/** A tensor at the engine's door: typed array, element type, dimensions. */
export interface RuntimeTensor {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Int8Array | Uint16Array;
}

export type Feeds = Readonly<Record<string, RuntimeTensor>>;
export type Outputs = Record<string, RuntimeTensor>;

/** An opened graph. `run` checks feed names; `close` frees the weights. */
export interface RuntimeSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** Where the nodes ran, once a session opened with `recordPlacement` has run. */
  readonly placement?: Placement | undefined;
  /** Runs the graph. Only the named outputs are computed and copied; default all. */
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Outputs>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /**
   * "training": least memory; no rewrites that change the last bits of results. "evaluation": the same with
   * them. "serving": weights packed for small batches. Default "training".
   */
  readonly purpose?: "training" | "evaluation" | "serving";
  /**
   * Constant weights are kept in the kernels' layout, in the place of the given one where all that read a weight want it so. Saves the
   * packing in every run; float32 weights that are read in two directions are held twice. Default: for serving only.
   */
  readonly packWeights?: boolean;
  /** Threads inside an operator; default: what the engine chooses (physical cores). */
  readonly threads?: number;
  /** Folder that relative external-data locations of a graph given as bytes refer to. */
  readonly externalDataFolder?: string;
  /** Execution providers in order of preference; default ["cpu"]. */
  readonly providers?: readonly string[];
  /** The engine writes nothing to the console; its errors come as exceptions either way. Default false. */
  readonly quiet?: boolean;
  /** The first run is observed, for `placement`. Default false. */
  readonly recordPlacement?: boolean;
  /** Plans the memory of all values from the shapes of the first run. Default false: on a CPU it keeps them all alive. */
  readonly memoryPattern?: boolean;
  /** More of ONNX Runtime's settings of a session, without "session." before their names. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Writes a kernel profile with this file prefix. */
  readonly profile?: string;
}

/** An engine: opens graphs given as bytes or as a path. */
export interface Runtime {
  readonly name: string;
  open(model: Uint8Array | string, options?: OpenOptions): Promise<RuntimeSession>;
}
