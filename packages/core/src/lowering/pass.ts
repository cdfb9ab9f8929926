import type { Model } from "../onnx/ir.ts";

/**
 * A rewriting of several nodes at once, by shape-free inspection of the graph: pure, and the very same object when there
 * is nothing to do. Names of graph inputs and outputs, and of every value that nodes outside the rewritten ones read, stay.
 */
export interface Pass {
  readonly name: string;
  readonly run: (model: Model) => Model;
}
