import { type AttributeInput, toAttribute } from "../../graph/attributes.ts";
import type { ElementType } from "../../onnx/element-type.ts";
import type { Model, Shape, TensorData } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { testRandom } from "../../testing/check-gradient.ts";

/** An input of the node under test: drawn from -1 to 1, or given; a graph input, or a constant of the file. */
export interface FusedInput {
  readonly dims: readonly number[];
  readonly data?: readonly number[];
  /** Default "float32". */
  readonly type?: "float32" | "int32" | "int64" | "bool";
  readonly constant?: boolean;
  /** Shape to declare instead of `dims`. */
  readonly shape?: Shape;
}

/** One node of a fused operator with everything around it that a file needs. */
export interface FusedNode {
  readonly op: string;
  /** Default "com.microsoft". */
  readonly domain?: string;
  /** null where an optional input is absent. */
  readonly inputs: readonly (FusedInput | null)[];
  readonly attributes?: Readonly<Record<string, AttributeInput>>;
  /** Element type and shape of each output; null where it is absent. Default one float32 output of open shape. */
  readonly outputs?: readonly ({ readonly type?: ElementType; readonly rank: number } | null)[];
  readonly opset?: number;
}

export const tensorOf = (input: FusedInput, random: () => number): TensorData => {
  const count = input.dims.reduce((a, b) => a * b, 1);
  const values = input.data ?? Array.from({ length: count }, () => 2 * random() - 1);
  return tensorFrom(input.type ?? "float32", input.dims, values);
};

/** A model of that node alone, its inputs named x0, x1, ... and its outputs y0, y1, ... */
export function fusedModel(spec: FusedNode): { model: Model; tensors: Map<string, TensorData> } {
  const { op, domain = "com.microsoft", inputs, attributes = {}, outputs = [{ rank: 0 }], opset = 17 } = spec;
  const random = testRandom(3);
  const tensors = new Map<string, TensorData>();
  inputs.forEach((input, i) => {
    if (input) tensors.set(`x${i}`, tensorOf(input, random));
  });
  const fed = inputs.flatMap((input, i) =>
    input && !input.constant
      ? [{ name: `x${i}`, type: input.type ?? ("float32" as const), shape: input.shape ?? input.dims }]
      : [],
  );
  const shown = outputs.flatMap((output, i) =>
    output
      ? [
          {
            name: `y${i}`,
            type: output.type ?? ("float32" as const),
            shape: Array.from({ length: output.rank }, (_, axis) => `y${i}_${axis}`),
          },
        ]
      : [],
  );
  const constants = [...tensors].filter(([name]) => !fed.some((v) => v.name === name));
  const node = {
    name: `/block/${op}`,
    op,
    domain,
    inputs: inputs.map((input, i) => (input ? `x${i}` : "")),
    outputs: outputs.map((output, i) => (output ? `y${i}` : "")),
    attributes: Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, toAttribute(value)])),
    metadata: { note: "kept" },
  };
  const graph = {
    name: "fused",
    nodes: [node],
    inputs: fed,
    outputs: shown,
    initializers: new Map(constants),
    values: new Map(),
  };
  const opsets = new Map([
    ["", opset],
    ["com.microsoft", 1],
  ]);
  const model = { irVersion: 8, opsets, producer: { name: "test", version: "" }, metadata: new Map(), graph };
  return { model, tensors };
}
