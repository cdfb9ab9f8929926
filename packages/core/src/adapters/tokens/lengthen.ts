import type { Builder } from "../../graph/builder.ts";
import { addDims, symbolFrom } from "../../onnx/dims.ts";
import type { Dim, Graph, Value } from "../../onnx/ir.ts";
import { virtualTokens } from "../attention/shift-positions.ts";
import type { SitePlan } from "../parameters.ts";
import type { TokenInput, TokenSequence } from "../site.ts";

interface Longer {
  readonly sequence: TokenSequence;
  /** Name of the tensor whose first axis counts the virtual tokens. */
  readonly counted: string;
}

function longer(plans: readonly SitePlan[]): Longer | null {
  const counted = virtualTokens(plans, "sequence");
  const sequence = plans.find(({ site }) => site.kind === "tokens")?.site.sequence;
  return counted && sequence ? { sequence, counted: counted.name } : null;
}

const countOf = (g: Builder, { counted }: Longer): Dim => g.value(counted).shape[0] ?? 0;

/**
 * What nodes read in the place of a model's inputs, so that every sequence begins with virtual tokens: ids of any token, since their
 * vectors are replaced, ones in masks, zeros as types, and positions 0, 1, ... before those of the real tokens, which move up.
 * Everything that a model computes from the length of its inputs follows from there. Empty for methods without virtual tokens.
 */
export function lengthenInputs(g: Builder, plans: readonly SitePlan[]): Map<string, Value> {
  const found = longer(plans);
  if (!found) return new Map();
  const n = countOf(g, found);
  return new Map(
    found.sequence.inputs.map((input) => {
      const value = g.value(input.name);
      const [first, rest] = g.scoped(`virtual tokens/${input.name}`, () => entries(g, input, value, n));
      return [input.name, g.concat([first, rest], 1)] as const;
    }),
  );
}

/** Entries [batch, n] of the virtual tokens, and those of the real ones. */
function entries(g: Builder, { fill, token }: TokenInput, value: Value, n: Dim): [Value, Value] {
  const shape = [value.shape[0] ?? 1, n];
  if (fill !== "position") return [g.filled(shape, fill === "one" ? 1 : (token ?? 0), value.type), value];
  const count = g.reshape(g.shapeTensor([n]), []);
  const range = g.op("Range", [g.constant("int64", 0), count, g.constant("int64", 1)])[0] as Value;
  const first = g.expand(g.unsqueeze(g.cast(range, value.type), [0]), shape);
  return [first, g.add(value, g.cast(count, value.type))];
}

/**
 * An output of a longer sequence without the entries of virtual tokens. Which axis counts tokens is declared in the file, or follows from
 * the shape.
 */
export function realTokens(g: Builder, name: string, value: Value, plans: readonly SitePlan[], graph: Graph): Value {
  const found = longer(plans);
  if (!found) return value;
  const n = countOf(g, found);
  const { length } = found.sequence;
  const declared = graph.outputs.find((v) => v.name === name)?.shape;
  return value.shape.reduce<Value>((shown, dim, axis) => {
    const isLong = dim === addDims(n, length);
    const given = declared?.[axis];
    if (typeof given === "string" ? symbolFrom(given) !== length : !isLong) return shown;
    const rest = isLong
      ? g.shapeTensor([length])
      : g.sub(g.op("Gather", [g.shapeOf(shown), g.ints([axis])])[0] as Value, g.shapeTensor([n]));
    const sizes = g.concat([g.shapeTensor([n]), rest], 0);
    return g.op("Split", [shown, sizes], { axis }, { count: 2 })[1] as Value;
  }, value);
}
