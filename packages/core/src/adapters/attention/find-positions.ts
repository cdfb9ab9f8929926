import type { Builder } from "../../graph/builder.ts";
import { importGraph } from "../../graph/import-graph.ts";
import { isFloating } from "../../onnx/element-type.ts";
import type { Model, Node, TensorData } from "../../onnx/ir.ts";
import { opsetOf } from "../../onnx/opset.ts";
import { elementCount, toNumbers } from "../../onnx/tensor.ts";
import { remembered } from "./walk.ts";

/** An input of a node that says where in the sequence a token stands. */
export interface PositionUse {
  /** Name of the node's first output. */
  readonly output: string;
  readonly input: number;
}

const steps = new Set([
  ...["Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Expand", "Slice", "Tile"],
  ...["Gather", "GatherElements", "Concat"],
]);
const sums = new Set(["Add", "Sub", "Mul", "Where", "Max", "Min", "Clip"]);

/** 0, 1, 2, ... along the last axis: a table of positions. */
function countsUp(tensor: TensorData): boolean {
  const last = tensor.dims.at(-1) ?? 0;
  if (last < 2 || isFloating(tensor.type) || tensor.type === "bool" || elementCount(tensor.dims) > 1 << 22)
    return false;
  return toNumbers(tensor).every((value, i) => value === i % last);
}

/**
 * Tells the values that count tokens: a Range, a running sum, a stored 0, 1, 2, ..., or the model's input of positions, whatever is
 * added to them or done to their shape.
 */
function positionsIn(g: Builder): (name: string) => boolean {
  const isPosition = remembered((name: string, depth: number): boolean => {
    if (name === "" || depth > 24) return false;
    const tensor = g.tensorOf(name);
    if (tensor) return countsUp(tensor);
    const value = g.value(name);
    const node = g.producerOf(value);
    if (!node) return /position/i.test(name) && value.shape.length > 0;
    if (node.domain !== "") return false;
    if (node.op === "Range" || node.op === "CumSum") return true;
    if (steps.has(node.op)) return isPosition(node.inputs[0] ?? "", depth + 1);
    return sums.has(node.op) && node.inputs.some((input) => isPosition(input, depth + 1));
  });
  return (name) => isPosition(name, 0);
}

/** Rows of a float table at positions: learned positions, or tables of sines and cosines. */
function isTableUse(g: Builder, node: Node, isPosition: (name: string) => boolean): boolean {
  const tensor = node.op === "Gather" || node.op === "GatherND" ? g.tensorOf(node.inputs[0] ?? "") : null;
  return tensor !== null && isFloating(tensor.type) && tensor.dims.length >= 2 && isPosition(node.inputs[1] ?? "");
}

const onTheWay = new Set([
  "Concat",
  "Transpose",
  "Unsqueeze",
  "Squeeze",
  "Cast",
  "Reshape",
  "Expand",
  "Identity",
  "Flatten",
]);

/** The product of positions and frequencies behind an angle. */
function angleUse(g: Builder, node: Node, isPosition: (name: string) => boolean): PositionUse | null {
  let name = node.inputs[0] ?? "";
  for (let depth = 0; depth < 24; depth++) {
    const producer = name === "" ? undefined : g.producerOf(g.value(name));
    if (producer?.domain !== "") return null;
    if (producer.op === "MatMul" || producer.op === "Mul") {
      const input = producer.inputs.findIndex((factor) => isPosition(factor));
      return input < 0 ? null : { output: producer.outputs[0] ?? "", input };
    }
    if (!onTheWay.has(producer.op)) return null;
    name = producer.inputs[0] ?? "";
  }
  return null;
}

const found = new WeakMap<Model, readonly PositionUse[]>();

/**
 * Where a model uses the positions of its tokens: rows of a table (learned positions, stored sines and cosines) and angles of
 * rotary positions. Comparisons of positions, as causal masks make them, are no such use. Empty for relative positions.
 * @param model in the form of `prepareModel`.
 */
export function findPositions(model: Model): readonly PositionUse[] {
  const known = found.get(model);
  if (known) return known;
  const g = importGraph(model.graph, opsetOf(model));
  const isPosition = positionsIn(g);
  const uses = g.nodes.flatMap((node): PositionUse[] => {
    if (node.domain !== "") return [];
    if (isTableUse(g, node, isPosition)) return [{ output: node.outputs[0] ?? "", input: 1 }];
    return node.op === "Cos" || node.op === "Sin" ? [angleUse(g, node, isPosition) ?? []].flat() : [];
  });
  const unique = [...new Map(uses.map((use) => [`${use.output}:${use.input}`, use])).values()];
  found.set(model, unique);
  return unique;
}
