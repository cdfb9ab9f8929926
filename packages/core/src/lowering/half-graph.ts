import { type ElementType, elementTypes, isFloating } from "../onnx/element-type.ts";
import { intAttribute } from "../onnx/infer/context.ts";
import type { Attribute, Graph, Node, TensorData, Value } from "../onnx/ir.ts";
import { elementCount, tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { TIED } from "../onnx/tied.ts";
import { halfCodes, isHalf, makesFloats } from "./float-types.ts";

/** Weights of fewer numbers (16 KB in float32) are simply converted: norms, biases, scalars. */
const CONVERT_BELOW = 4096;

/** Operators that only move data: a weight stays in 16 bits through them. */
const movers = new Set(["Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"]);

/** Inputs that an operator wants in the type it computes in, and that are small beside the weight: scales. */
const scaleInputs: ReadonlyMap<string, number> = new Map([
  ["MatMulNBits", 2],
  ["MatMulBnb4", 2],
  ["GatherBlockQuantized", 2],
  ["DequantizeLinear", 1],
  ["QuantizeLinear", 1],
]);

const int = (value: number): Attribute => ({ type: "int", value });
const floatCode = elementTypes.float32.code;

const toFloat = (tensor: TensorData): TensorData => tensorFrom("float32", tensor.dims, toFloat32Array(tensor));

/** What is known while a graph is rewritten; sub-graphs see that of the graph around them. */
interface Scope {
  /** Values that are read under another name now. */
  readonly names: Map<string, string>;
  /** Values that stay in 16 bits: large weights, and what movers make of them. */
  readonly halves: Map<string, readonly number[] | null>;
  /** Values that are certainly float32. */
  readonly floats: Set<string>;
}

/** Sizes behind a mover, for a tie to read; null where they are not simply known (then the weight is not tied). */
function movedDims(node: Node, dims: readonly number[] | null): readonly number[] | null {
  if (!dims || node.op === "Identity") return dims;
  if (node.op !== "Transpose") return null;
  const perm = node.attributes["perm"];
  const order = perm?.type === "ints" ? perm.value.map(Number) : dims.map((_, i) => dims.length - 1 - i);
  return order.map((axis) => dims[axis] ?? 0);
}

/**
 * The graph in float32 arithmetic; inputs and outputs keep their types. `outer` is what holds around a sub-graph: there
 * inputs and outputs become float32 as well, and weights are not tied (they are small, or belong to the graph around).
 */
export function rewriteHalves(graph: Graph, outer?: Scope): Graph {
  const nodes: Node[] = [];
  const initializers = new Map<string, TensorData>();
  const scope: Scope = {
    names: new Map(outer?.names),
    halves: new Map(outer?.halves),
    floats: new Set(outer?.floats),
  };

  function add(
    op: string,
    inputs: string[],
    output: string,
    attributes: Node["attributes"] = {},
    metadata: Node["metadata"] = {},
  ): string {
    nodes.push({ ...{ name: output, op, domain: "" }, inputs, outputs: [output], attributes, metadata });
    return output;
  }

  function ints(name: string, values: readonly number[]): string {
    initializers.set(name, tensorFrom("int64", [values.length], values));
    return name;
  }

  const isFloat = (name: string): boolean => scope.floats.has(read(name));
  function read(name: string): string {
    return scope.names.get(name) ?? name;
  }

  function castInput(name: string): void {
    const float = add("Cast", [name], `${name}:float32`, { to: int(floatCode) });
    scope.names.set(name, float);
    scope.floats.add(float);
  }

  /** Puts an output in the type it has in the file; a Cast to it may have been dropped on the way. */
  function output(name: string, half: ElementType | null): void {
    const source = read(name);
    if (half) add("Cast", [asFloat(source, null, name)], name, { to: int(elementTypes[half].code) });
    else if (source !== name) add("Identity", [asFloat(source, null, name)], name);
  }

  /** The float32 form of a value. A weight in 16 bits is cast where it is read, after `dependency` exists. */
  function asFloat(name: string, dependency: string | null, reader: string): string {
    if (!scope.halves.has(name)) return name;
    const base = `${name}:${reader}`;
    const float = `${base}:float32`;
    if (scope.floats.has(float)) return float; // one node reads it twice
    const dims = scope.halves.get(name);
    scope.floats.add(float);
    const source = dependency !== null && dims && !outer ? tied(name, dims, dependency, base) : name;
    return add("Cast", [source], float, { to: int(floatCode) });
  }

  /** See `tiedConstant`: the same nodes. */
  function tied(name: string, dims: readonly number[], dependency: string, base: string): string {
    const flat = add("Reshape", [dependency, ints("half:-1", [-1])], `${base}:flat`);
    const range = [ints("half:0", [0]), ints("half:1", [1]), "half:0"];
    const first = add("Slice", [flat, ...range], `${base}:first`);
    const isNotANumber = add("IsNaN", [first], `${base}:isnan`);
    const whole = add("Cast", [isNotANumber], `${base}:int`, { to: int(7) });
    const zero = add("Mul", [whole, "half:0"], `${base}:zero`);
    const target = add("Add", [ints(`half:${dims.join("x")}`, dims), zero], `${base}:target`);
    return add("Reshape", [name, target], `${base}:tied`, {}, { [TIED]: dims.join(",") });
  }

  function visit(node: Node, shown: ReadonlyMap<string, unknown>): void {
    const inputs = node.inputs.map((name) => read(name));
    const outputs = node.outputs.map((name) => read(name));
    const [source = "", output = ""] = [inputs[0], outputs[0]];
    if (node.op === "Cast" && node.domain === "" && dropCast(node, source, shown)) return;
    const isMover =
      node.domain === "" && movers.has(node.op) && scope.halves.has(source) && !shown.has(node.outputs[0] ?? "");
    if (isMover) {
      scope.halves.set(output, movedDims(node, scope.halves.get(source) ?? null));
      nodes.push({ ...node, inputs, outputs });
      return;
    }
    if (node.op === "Gather" && node.domain === "" && scope.halves.has(source)) {
      nodes.push({ ...node, inputs, outputs: [`${output}:rows`] });
      add("Cast", [`${output}:rows`], output, { to: int(floatCode) });
      scope.floats.add(output);
      return;
    }
    const dependency = inputs.find((name) => scope.floats.has(name) && !initializers.has(name)) ?? null;
    const floats = inputs.map((name, i) =>
      scaleInputs.get(node.op) === i ? scale(name) : asFloat(name, dependency, node.outputs[0] ?? node.name),
    );
    if (makesFloats(node, isFloat)) scope.floats.add(output);
    nodes.push({ ...node, inputs: floats, outputs, attributes: attributes(node) });
  }

  /** Casts between floats disappear; true when this one did. */
  function dropCast(node: Node, source: string, shown: ReadonlyMap<string, unknown>): boolean {
    const to = intAttribute(node, "to", 0);
    const [output = ""] = node.outputs;
    if (to !== floatCode && !halfCodes.has(to)) return false;
    if (!scope.halves.has(source) && !scope.floats.has(source)) return false;
    if (shown.has(output) && scope.halves.has(source)) return false;
    scope.names.set(output, source);
    return true;
  }

  /** Scales in float32, as an initialiser of their own where the file's is read elsewhere in 16 bits. */
  function scale(name: string): string {
    const tensor = initializers.get(name);
    if (!tensor || !isHalf(tensor.type)) return name;
    const float = `${name}:float32`;
    if (!initializers.has(float)) initializers.set(float, toFloat(tensor));
    return float;
  }

  function attributes(node: Node): Node["attributes"] {
    const convert = (name: string, attribute: Attribute): Attribute => {
      if (attribute.type === "tensor")
        return isHalf(attribute.value.type) ? { ...attribute, value: toFloat(attribute.value) } : attribute;
      if (attribute.type === "graph") return { ...attribute, value: rewriteHalves(attribute.value, scope) };
      if (attribute.type === "graphs")
        return { ...attribute, value: attribute.value.map((g) => rewriteHalves(g, scope)) };
      const isType = attribute.type === "int" && (name === "to" || name === "dtype" || name === "output_dtype");
      return isType && halfCodes.has(Number(attribute.value)) ? int(floatCode) : attribute;
    };
    return Object.fromEntries(Object.entries(node.attributes).map(([name, a]) => [name, convert(name, a)]));
  }

  for (const [name, tensor] of graph.initializers) {
    const stays = isHalf(tensor.type) && tensor.dims.length >= 2 && elementCount(tensor.dims) >= CONVERT_BELOW;
    initializers.set(name, isHalf(tensor.type) && !stays ? toFloat(tensor) : tensor);
    if (stays) scope.halves.set(name, tensor.dims);
    else if (isFloating(tensor.type)) scope.floats.add(name);
  }
  for (const { name, type } of graph.inputs) {
    if (graph.initializers.has(name)) continue;
    if (isHalf(type) && !outer) castInput(name);
    else if (isFloating(type)) scope.floats.add(name);
  }
  const shown = new Map(graph.outputs.map(({ name, type }) => [name, isHalf(type) && !outer ? type : null]));
  for (const [name, half] of shown) if (half) scope.names.set(name, `${name}:float32`);
  for (const node of graph.nodes) visit(node, shown);
  for (const [name, half] of shown) output(name, half);
  const inFloat = (value: Value): Value => (outer && isHalf(value.type) ? { ...value, type: "float32" } : value);
  const [inputs, outputs] = [graph.inputs.map(inFloat), graph.outputs.map(inFloat)];
  return { ...graph, inputs, outputs, nodes, initializers, values: new Map() };
}
