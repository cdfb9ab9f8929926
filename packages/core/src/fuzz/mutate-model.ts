import { decodeModel } from "../onnx/decode.ts";
import { inferenceTable } from "../onnx/infer/table.ts";
import type { Attribute, Dim, Model, Node, TensorData, Value } from "../onnx/ir.ts";
import { tensorFrom, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import type { FuzzRandom } from "../testing/fuzz/fuzz-random.ts";
import type { Mutation } from "../testing/fuzz/mutate-bytes.ts";

const operators = Object.keys(inferenceTable);
const numbers = [-(2 ** 31), -9, -2, -1, 0, 1, 2, 3, 4, 7, 64, 65, 1000, 2 ** 31 - 1, 2 ** 31, 2 ** 40, 2 ** 53 - 1];
const dims: readonly Dim[] = [0, 1, 2, 3, 4, 8, 1000, 2 ** 31, 2 ** 40, "n", "batch", "sequence", "2*n", "?", "[a|b]"];
const names = [
  "axis",
  "axes",
  "perm",
  "to",
  "keepdims",
  "kernel_shape",
  "strides",
  "pads",
  "dilations",
  "group",
  "auto_pad",
  "allowzero",
  "start",
  "end",
  "transA",
  "transB",
  "num_outputs",
  "split",
  "blocksize",
  "mode",
  "equation",
  "value",
  "output_shape",
  "k",
  "batch_dims",
  "num_heads",
];

function someAttribute(random: FuzzRandom): Attribute {
  switch (random.below(5)) {
    case 0:
      return { type: "ints", value: Array.from({ length: random.below(6) }, () => random.pick(numbers)) };
    case 1:
      return { type: "float", value: random.pick([0, 1, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e30]) };
    case 2:
      return {
        type: "string",
        value: random.pick(["SAME_UPPER", "VALID", "ij,jk->ik", "...i->i", "ii", "", "->", "linear"]),
      };
    case 3:
      return { type: "tensor", value: someIntegers(random) };
    default:
      return { type: "int", value: random.pick(numbers) };
  }
}

const someIntegers = (random: FuzzRandom): TensorData => {
  const values = Array.from({ length: random.below(6) }, () => random.pick(numbers));
  return values.length === 1 && random.chance(0.5)
    ? tensorFrom("int64", [], values)
    : tensorFrom("int64", [values.length], values);
};

/** An operator of another kind, or its attributes, or its operands. */
function editNode(node: Node, model: Model, random: FuzzRandom): void {
  const values = [...model.graph.initializers.keys(), ...model.graph.nodes.flatMap(({ outputs }) => outputs)];
  const slot = random.below(node.inputs.length + 1);
  switch (random.below(6)) {
    case 0: {
      const [name = "", domain = ""] = random.pick(operators).split("::").reverse();
      node.op = name;
      node.domain = domain;
      break;
    }
    case 1:
      node.attributes[random.pick([...Object.keys(node.attributes), random.pick(names)])] = someAttribute(random);
      break;
    case 2:
      delete node.attributes[random.pick([...Object.keys(node.attributes), ""])];
      break;
    case 3:
      node.inputs[slot] = random.pick(values);
      break;
    case 4:
      node.inputs.splice(slot, 1);
      break;
    default:
      node.outputs.push(`extra_${random.below(4)}`);
  }
}

/** Contents of a small list of integers: a shape, axes, counts. */
function editInteger(model: Model, random: FuzzRandom): void {
  const lists = [...model.graph.initializers].filter(
    ([, { type, data }]) => type === "int64" && data instanceof Uint8Array,
  );
  if (lists.length === 0) return;
  const [name, tensor] = random.pick(lists);
  const values = toNumbers(tensor);
  values[random.below(values.length)] = random.pick(numbers);
  const fits = values.length === tensor.dims.reduce((a, b) => a * b, 1);
  model.graph.initializers.set(name, fits ? tensorFrom("int64", tensor.dims, values) : someIntegers(random));
}

function editShape(list: Value[], random: FuzzRandom): void {
  if (list.length === 0) return;
  const at = random.below(list.length);
  const value = list[at] as Value;
  const shape = [...value.shape];
  if (random.chance(0.7)) shape[random.below(shape.length)] = random.pick(dims);
  else if (random.chance(0.5)) shape.push(random.pick(dims));
  else shape.pop();
  list[at] = {
    ...value,
    type: random.chance(0.8) ? value.type : random.pick(["int64", "bool", "float16", "string"]),
    shape,
  };
}

/**
 * Damages the meaning of a model and not its bytes: what comes out is a well-formed file whose operators, shapes and
 * constants do not fit together. An input that is no model is given back as it is.
 */
export const mutateModel: Mutation = (input, random) => {
  try {
    const model = decodeModel(input);
    for (let times = 1 + random.below(4); times > 0; times--) {
      const kind = random.below(8);
      if (kind === 0) editShape(model.graph.inputs, random);
      else if (kind === 1) editInteger(model, random);
      else if (model.graph.nodes.length > 0) editNode(random.pick(model.graph.nodes), model, random);
    }
    return encodeModel(model);
  } catch {
    return input;
  }
};
