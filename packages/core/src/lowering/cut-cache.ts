import { isFloating } from "../onnx/element-type.ts";
import type { Dim, Graph, Model, Node, TensorData, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";

/** An axis along which earlier tokens lie. Every exporter calls its size "past..." (past_sequence_length). */
const isPast = (dim: Dim): boolean => typeof dim === "string" && /past/i.test(dim);

/** Keys, values or states of earlier tokens: a floating-point input of three axes or more, one of them the past. */
const isCache = ({ type, shape }: Value): boolean => isFloating(type) && shape.length >= 3 && shape.some(isPast);

interface Emptied {
  readonly nodes: Node[];
  readonly constants: [string, TensorData][];
}

/** Nodes that make the empty cache: zeros of the input's shape with no past. Null when a size is nowhere to be read. */
function emptyCache(graph: Graph, cache: Value): Emptied | null {
  const nodes: Node[] = [];
  const constants: [string, TensorData][] = [];
  const constant = (name: string, number: number): string => {
    constants.push([name, tensorFrom("int64", [1], [number])]);
    return name;
  };
  const add = (op: string, inputs: string[], output: string, attributes: Node["attributes"] = {}): string => {
    nodes.push({ name: `${output}/${op}`, op, domain: "", inputs, outputs: [output], attributes, metadata: {} });
    return output;
  };
  const parts: string[] = [];
  for (const [axis, dim] of cache.shape.entries()) {
    const name = `${cache.name}:size:${axis}`;
    if (typeof dim === "number" || isPast(dim)) {
      parts.push(constant(name, typeof dim === "number" ? dim : 0));
      continue;
    }
    const source = graph.inputs.find((v) => !isCache(v) && v.shape.includes(dim));
    if (!source) return null;
    const sizes = add("Shape", [source.name], `${name}:shape`);
    const index = constant(`${name}:axis`, source.shape.indexOf(dim));
    parts.push(add("Gather", [sizes, index], name, { axis: { type: "int", value: 0 } }));
  }
  const shape = add("Concat", parts, `${cache.name}:shape`, { axis: { type: "int", value: 0 } });
  const zero = tensorFrom(cache.type, [1], [0]);
  add("ConstantOfShape", [shape], cache.name, { value: { type: "tensor", value: zero } });
  return { nodes, constants };
}

const cut = new WeakMap<Model, Model>();

/**
 * A decoder without its cache of earlier keys and values: training sees whole sequences, so those inputs are empty, and no
 * longer inputs. All other nodes are the very same objects; outputs that show the cache show this run's keys and values. The
 * same model when it has no such input. Computed once per model object.
 * @example
 * cutCache(model).graph.inputs.map((v) => v.name); // ["input_ids", "attention_mask"]
 */
export function cutCache(model: Model): Model {
  const known = cut.get(model);
  if (known) return known;
  const { graph } = model;
  const emptied = graph.inputs.flatMap((input) => {
    const empty = isCache(input) ? emptyCache(graph, input) : null;
    return empty ? [{ name: input.name, ...empty }] : [];
  });
  const gone = new Set(emptied.map(({ name }) => name));
  const result =
    emptied.length === 0
      ? model
      : {
          ...model,
          graph: {
            ...graph,
            inputs: graph.inputs.filter(({ name }) => !gone.has(name)),
            nodes: [...emptied.flatMap(({ nodes }) => nodes), ...graph.nodes],
            initializers: new Map([...graph.initializers, ...emptied.flatMap(({ constants }) => constants)]),
          },
        };
  cut.set(model, result);
  return result;
}
