import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { divideExactly, symbolFrom } from "../onnx/dims.ts";
import { intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Dim, Graph, Node, Value } from "../onnx/ir.ts";

/** How the rows of the batch lie in a value: along which axis, and how many neighbouring entries of it belong to one row. */
export interface RowLayout {
  readonly axis: number;
  /** 1 where the axis is the batch itself; the number of tokens in [batch * tokens, hidden]. */
  readonly perRow: Dim;
}

/**
 * The size of the batch: the first dimension of the model's first input that has one.
 * @throws PeftError BATCH_UNKNOWN
 */
export function batchOf(graph: Graph): Dim {
  const input = graph.inputs.find(({ name, shape }) => shape.length > 0 && !graph.initializers.has(name));
  const [batch] = input?.shape ?? [];
  if (batch !== undefined) return typeof batch === "string" ? symbolFrom(batch) : batch;
  throw new PeftError("BATCH_UNKNOWN", "No input of the model has an axis that could be the batch.", {
    hint: `Inputs are [${graph.inputs.map((v) => v.name).join(", ")}].`,
  });
}

/** Operators whose result has, at every place of its first axis, what follows from the same place of their inputs. */
const rowByRow = new Set([
  ...[
    "Identity",
    "Cast",
    "Dropout",
    "StopGradient",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Gelu",
    "FastGelu",
    "Erf",
    "Tanh",
    "Sigmoid",
  ],
  ...["Softplus", "HardSigmoid", "HardSwish", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Clip"],
  ...["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where"],
  ...["MatMul", "LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"],
  ...["SkipLayerNormalization", "BiasGelu", "QuickGelu"],
]);

/** True when axis 0 of a result has the order of axis 0 of the inputs as long as it. */
function keepsOrder(node: Node): boolean {
  if (node.op === "Gemm" || node.op === "FusedMatMul") return intAttribute(node, "transA", 0) === 0;
  if (node.op === "Transpose") return intsAttribute(node, "perm")?.[0] === 0;
  if (node.op === "Flatten") return intAttribute(node, "axis", 1) > 0;
  return node.op === "Reshape" || rowByRow.has(node.op);
}

/** True when the batch is the outermost factor of axis 0: shown by the way back to a value whose axis 0 is the batch itself. */
function isOutermost(g: Builder, value: Value, batch: Dim, seen = new Set<string>()): boolean {
  const [first] = value.shape;
  if (first === batch) return true;
  if (first === undefined || seen.has(value.name) || divideExactly(first, batch) === null) return false;
  seen.add(value.name);
  const node = g.producerOf(value);
  if (!node || !keepsOrder(node)) return false;
  const isReshape = node.op === "Reshape" || node.op === "Flatten";
  const sources = node.inputs.slice(0, isReshape ? 1 : undefined).filter((name) => name !== "");
  return sources
    .map((name) => g.value(name))
    .some((source) => (isReshape || source.shape[0] === first) && isOutermost(g, source, batch, seen));
}

/**
 * Where the rows of a batch are in a value, or null when nothing shows it: an axis that is the batch, or a first axis of
 * which the batch is the outer part. A fixed batch is looked for in the first axis only, as any other may have its size.
 */
export function rowLayout(g: Builder, value: Value, batch: Dim): RowLayout | null {
  const axis = typeof batch === "number" ? (value.shape[0] === batch ? 0 : -1) : value.shape.indexOf(batch);
  if (axis >= 0) return { axis, perRow: 1 };
  const [first] = value.shape;
  const perRow = first === undefined || first === 0 ? null : divideExactly(first, batch);
  return perRow !== null && isOutermost(g, value, batch) ? { axis: 0, perRow } : null;
}

/** @throws PeftError ROWS_UNKNOWN where the rows of the batch cannot be told apart. */
export function rowLayoutAt(g: Builder, value: Value, batch: Dim, site: string): RowLayout {
  const layout = rowLayout(g, value, batch);
  if (layout) return layout;
  throw new PeftError(
    "ROWS_UNKNOWN",
    `At "${site}" the rows of the batch cannot be told apart: expected an axis of size "${batch}" in its input, received [${value.shape.join(", ")}].`,
    { hint: "Leave the module out (excludeModules), or export the model with the batch as its first axis." },
  );
}
