import { intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Node } from "../onnx/ir.ts";
import { elementCount, toNumbers } from "../onnx/tensor.ts";
import { fusedNames } from "./fused-names.ts";
import { type GraphIndex, onlyConsumer, weightBehind } from "./graph-index.ts";
import type { Operand } from "./site.ts";
import { siteNameOf } from "./site-names.ts";
import type { FoundUse } from "./use-parts.ts";

/** Sizes of a Split along the last axis; null when they are not written in the file. */
function splitSizes(index: GraphIndex, node: Node, total: number): number[] | null {
  const sizes = node.inputs[1] ?? "";
  const tensor = index.graph.initializers.get(sizes);
  if (sizes !== "") return tensor?.type === "int64" && elementCount(tensor.dims) <= 8 ? toNumbers(tensor) : null;
  const count = node.outputs.length;
  return intsAttribute(node, "split") ?? (total % count === 0 ? new Array<number>(count).fill(total / count) : null);
}

/** How many output features the product behind a use has. */
function featuresOf(index: GraphIndex, { use, operandLayout }: FoundUse): number {
  const [rows = 0, columns = 0] = weightBehind(index, use.weight)?.dims ?? [];
  return (operandLayout === "out_in") !== use.weight.transposed ? rows : columns;
}

/**
 * Query, key and value behind one fused product: a use whose result is split in three right away is one use per part, each
 * with its slice of weight and bias and with the value that the Split makes. The product stays one; nothing is copied. Only
 * where the weight is no module of the original model: GPT-2's c_attn holds the three there too, and stays one module.
 */
export function fusedUses(index: GraphIndex, found: FoundUse): FoundUse[] | null {
  const { use, kind } = found;
  if (kind !== "linear") return null;
  const split = onlyConsumer(index, use.output);
  if (split?.op !== "Split" || split.domain !== "" || split.outputs.length !== 3) return null;
  if (![-1, 2].includes(intAttribute(split, "axis", 0))) return null;
  const total = featuresOf(index, found);
  const sizes = splitSizes(index, split, total);
  if (!sizes || sizes.reduce((a, b) => a + b, 0) !== total) return null;
  const names = fusedNames(index, split, siteNameOf(index, use.nodes, use.weight, use.bias));
  if (!names) return null;
  if ("whole" in names) return [{ ...found, name: names.whole }];
  let start = 0;
  return sizes.map((size, i): FoundUse => {
    const sliced = (operand: Operand): Operand => ({ ...operand, slice: { start, size, total } });
    const part = {
      ...found,
      ...(names.parts[i] ? { name: names.parts[i] } : {}),
      use: {
        nodes: [...use.nodes, split],
        input: use.input,
        output: split.outputs[i] ?? "",
        weight: sliced(use.weight),
        bias: use.bias && sliced(use.bias),
      },
    };
    start += size;
    return part;
  });
}
