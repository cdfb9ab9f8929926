import type { Builder } from "../graph/builder.ts";
import type { Node, Value } from "../onnx/ir.ts";
import { tiedDims } from "../onnx/tied.ts";
import { tiedConstant } from "../quantization/tied-constant.ts";

const steps = new Set(["Identity", "Cast", "Transpose", "Reshape"]);

/** The nodes from a constant to `value`, if one of them makes a smaller one larger (a Cast, or DequantizeLinear); else null. */
function expansionOf(g: Builder, value: Value): Node[] | null {
  const chain: Node[] = [];
  for (let current = value; ; ) {
    const node = g.producerOf(current);
    if (!node) return g.initializers.has(current.name) && chain.some(({ op }) => op === "Cast") ? chain : null;
    const [source = "", ...others] = node.inputs;
    if (tiedDims(node)) {
      current = g.value(source);
      continue;
    }
    chain.unshift(node);
    if (others.some((name) => name !== "" && !g.initializers.has(name))) return null;
    if (node.op === "DequantizeLinear") return g.initializers.has(source) ? chain : null;
    if (node.domain !== "" || !steps.has(node.op)) return null;
    current = g.value(source);
  }
}

/** The constant behind a tie to the forward pass. */
function untied(g: Builder, value: Value): Value {
  const node = g.producerOf(value);
  return node && tiedDims(node) ? g.value(node.inputs[0] ?? "") : value;
}

/**
 * A frozen factor as the backward pass should read it. A weight that the graph makes from a smaller constant
 * (DequantizeLinear, or Cast from float16) is made once more, after `dY` exists: read from the forward pass, or as an equal
 * node that the engine merges with the forward's, its float32 form would live from one to the other, for all layers at once.
 * Any other value is returned as it is. Same bits.
 */
export function frozenOperand(g: Builder, value: Value, dY: Value): Value {
  const chain = expansionOf(g, value);
  const [first, ...rest] = chain ?? [];
  if (!first) return value;
  const [from, ...others] = first.inputs.map((name) => (name === "" ? null : g.value(name)));
  const source = from ? untied(g, from) : null;
  if (!source) return value;
  const again = (node: Node, from: Value, own: readonly (Value | null)[]): Value =>
    g.op(node.op, [from, ...own], node.attributes, { domain: node.domain })[0] as Value;
  const tied = first.op === "DequantizeLinear" ? source : tiedConstant(g, source, dY);
  const scales = first.op === "DequantizeLinear" && others[0] ? [g.after(others[0], dY), ...others.slice(1)] : others;
  return rest.reduce(
    (current, node) =>
      again(
        node,
        current,
        node.inputs.slice(1).map((name) => (name === "" ? null : g.value(name))),
      ),
    again(first, tied, scales),
  );
}
