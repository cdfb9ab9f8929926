import { WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import { type DecodeContext, freshSymbol } from "./decode-context.ts";
import { decodeNode } from "./decode-node.ts";
import { decodeTensor, readText } from "./decode-tensor.ts";
import { type DeclaredValue, decodeValue } from "./decode-value.ts";
import type { Graph, Value, ValueType } from "./ir.ts";
import { checkLimit } from "./limits.ts";
import { graphFields } from "./schema.ts";
import { expectWire, fieldsOf } from "./source.ts";
import { hasUnknownRank, isAnonymous, undeclared, unknownRank } from "./unknown-shape.ts";

const sameDeclaration = (a: ValueType, b: ValueType): boolean =>
  a.type === b.type &&
  a.shape.length === b.shape.length &&
  a.shape.every((dim, i) => dim === b.shape[i] || isAnonymous(dim) || isAnonymous(b.shape[i] ?? ""));

/** Declared graph inputs or outputs as values; what is missing is a problem or an unknown rank. */
function boundaryValues(
  declared: readonly DeclaredValue[],
  known: ReadonlyMap<string, ValueType>,
  kind: "input" | "output",
  path: string,
  context: DecodeContext,
): Value[] {
  const isMain = path === "graph";
  return declared.flatMap(({ name, type, shape, unsupported }, i): Value[] => {
    const where = `${kind} "${name}" (${path}.${kind}[${i}])`;
    const report = (code: string, message: string): Value[] => {
      context.problems.push({ code, message });
      return [];
    };
    if (unsupported) return report("ONNX_UNSUPPORTED", `${where} is a ${unsupported}; only tensors are supported.`);
    if (name === "") return report("ONNX_INVALID", `${where} has no name.`);
    const elementType = type ?? known.get(name)?.type;
    if (!elementType && !isMain) return [{ name, type: "float32", shape: undeclared }];
    if (!elementType)
      return report("ONNX_INVALID", `${where} has no element type; run ONNX shape inference on the file.`);
    const dims = shape ?? known.get(name)?.shape;
    if (!dims && isMain && kind === "input") {
      return report("ONNX_INVALID", `${where} has no rank; declare its shape in the file.`);
    }
    return [{ name, type: elementType, shape: dims ?? unknownRank }];
  });
}

function declaredValues(infos: readonly DeclaredValue[], path: string, context: DecodeContext): Map<string, ValueType> {
  const values = new Map<string, ValueType>();
  for (const { name, type, shape, unsupported } of infos) {
    if (unsupported) {
      const message = `value "${name}" of ${path} is a ${unsupported}; only tensors are supported.`;
      context.problems.push({ code: "ONNX_UNSUPPORTED", message });
    }
    if (name === "" || !type || !shape) continue;
    const before = values.get(name);
    if (before && !sameDeclaration(before, { type, shape })) {
      context.problems.push({
        code: "ONNX_INVALID",
        message: `value "${name}" of ${path} is declared twice, differently.`,
      });
    }
    values.set(name, { type, shape });
  }
  return values;
}

/**
 * A GraphProto that lies from `start` to `end`, with its sub-graphs. Nodes stay in the order of the file.
 * @throws PeftError with the codes of `decodeModel`
 */
export function decodeGraph(context: DecodeContext, start: number, end: number, path: string, depth: number): Graph {
  checkLimit("nested graphs", depth, context.limits.maxNesting, path);
  const { source, problems } = context;
  const fresh = (name: string, axis: number): string => freshSymbol(context.symbols, name, axis);
  const inputs: DeclaredValue[] = [];
  const outputs: DeclaredValue[] = [];
  const infos: DeclaredValue[] = [];
  const graph: Graph = { name: "", nodes: [], inputs: [], outputs: [], initializers: new Map(), values: new Map() };
  for (const field of fieldsOf(source, start, end, path)) {
    switch (field.number) {
      case graphFields.node:
        graph.nodes.push(decodeNode(context, field, `${path}.node[${graph.nodes.length}]`, depth));
        break;
      case graphFields.name:
        graph.name = readText(context, field, `${path}.name`);
        break;
      case graphFields.initializer: {
        const where = `${path}.initializer[${graph.initializers.size}]`;
        expectWire(field, WireType.LengthDelimited, where);
        const { name, tensor } = decodeTensor(context, field.start, field.end, where);
        if (name === "") problems.push({ code: "ONNX_INVALID", message: `${where} has no name.` });
        if (graph.initializers.has(name)) {
          problems.push({ code: "ONNX_INVALID", message: `initializer "${name}" of ${path} occurs twice.` });
        }
        graph.initializers.set(name, tensor);
        break;
      }
      case graphFields.input:
        inputs.push(decodeValue(context, field, `${path}.input[${inputs.length}]`, fresh));
        break;
      case graphFields.output:
        outputs.push(decodeValue(context, field, `${path}.output[${outputs.length}]`, fresh));
        break;
      case graphFields.valueInfo:
        infos.push(decodeValue(context, field, `${path}.value_info[${infos.length}]`, fresh));
        break;
      case graphFields.sparseInitializer:
        throw new PeftError("ONNX_UNSUPPORTED", `sparse initializers are not supported, received one at ${path}.`);
    }
  }
  graph.values = declaredValues(infos, path, context);
  graph.inputs = boundaryValues(inputs, graph.values, "input", path, context);
  graph.outputs = boundaryValues(outputs, graph.values, "output", path, context);
  for (const { name, type, shape } of [...graph.inputs, ...graph.outputs]) {
    if (!hasUnknownRank(shape)) graph.values.set(name, { type, shape });
  }
  return graph;
}
