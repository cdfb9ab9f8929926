import { floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { mergeHeads, positionsOf, splitHeads } from "./heads.ts";

/** cos and sin per token: [tokens, half] or [batch, 1, tokens, half]. */
export interface Angles {
  readonly cos: Value;
  readonly sin: Value;
  /** Half of the rotated width. */
  readonly half: number;
}

/** Rows of the tables at the positions, which are [tokens] or [batch, tokens]. */
export function anglesAt(c: ExpansionContext, cosTable: Value, sinTable: Value, positions: Value): Angles {
  const { g } = c;
  const half = cosTable.shape.at(-1);
  if (typeof half !== "number") return refuse(c, "the width of its cosine table is not known");
  const pick = (table: Value): Value => {
    // Not a Gather, which would look like an embedding.
    const rows = g.gatherND(table, g.unsqueeze(positions, [positions.shape.length]));
    return positions.shape.length === 2 ? g.unsqueeze(rows, [1]) : rows;
  };
  return { cos: pick(cosTable), sin: pick(sinTable), half };
}

/**
 * Rotary position embedding of x [batch, heads, tokens, width]: pairs (a, b) of the first 2 * half channels become
 * (a cos - b sin, b cos + a sin), the rest is passed on. A pair is (i, i + half), or (2i, 2i + 1) when interleaved.
 */
export function rotate(c: ExpansionContext, x: Value, angles: Angles, interleaved: boolean): Value {
  const { g } = c;
  const width = x.shape.at(-1);
  const rotated = 2 * angles.half;
  if (typeof width !== "number" || rotated > width) return refuse(c, "its tables are wider than a head");
  const [head, rest] = width > rotated ? g.split(x, [rotated, width - rotated], 3) : [x, null];
  const turned = interleaved ? interleavedPairs(c, head as Value, angles) : halves(c, head as Value, angles);
  return rest ? g.concat([turned, rest], 3) : turned;
}

function halves({ g }: ExpansionContext, x: Value, { cos, sin, half }: Angles): Value {
  const [a, b] = g.split(x, [half, half], 3) as [Value, Value];
  return g.concat([g.sub(g.mul(a, cos), g.mul(b, sin)), g.add(g.mul(b, cos), g.mul(a, sin))], 3);
}

function interleavedPairs({ g }: ExpansionContext, x: Value, { cos, sin, half }: Angles): Value {
  const pairs = g.op("Reshape", [x, g.ints([0, 0, -1, half, 2])])[0] as Value;
  const [a, b] = g.split(pairs, [1, 1], 4) as [Value, Value];
  const column = (table: Value): Value => g.unsqueeze(table, [table.shape.length]);
  const [c1, s1] = [column(cos), column(sin)];
  const turned = g.concat([g.sub(g.mul(a, c1), g.mul(b, s1)), g.add(g.mul(b, c1), g.mul(a, s1))], 4);
  return g.op("Reshape", [turned, g.ints([0, 0, -1, 2 * half])])[0] as Value;
}

/** Rotary position embedding as an operator of its own. */
export const rotaryEmbedding = {
  /**
   * X [batch, tokens, hidden] or [batch, heads, tokens, width]; position_ids [1] is the position of the first token, or
   * [batch, tokens]. Tables [positions, half]. Formula: {@link rotate}.
   */
  "com.microsoft::RotaryEmbedding": (c) => {
    const { g, node } = c;
    if (intAttribute(node, "is_packed_batching", 0) !== 0) return refuse(c, "batches packed without padding");
    if (floatAttribute(node, "scale", 1) !== 1) return refuse(c, "a scale other than 1");
    const [x, ids] = [required(c, 0), required(c, 1)];
    const [cosTable, sinTable] = [required(c, 2), required(c, 3)];
    const half = cosTable.shape.at(-1);
    const hidden = x.shape.at(-1);
    const isFlat = x.shape.length === 3;
    if (typeof half !== "number" || typeof hidden !== "number") return refuse(c, "the width of a head is not known");
    const given = intAttribute(node, "num_heads", 0);
    const heads = given > 0 ? given : hidden / (2 * half);
    const split = isFlat ? splitHeads(g, x, heads) : x;
    const positions = ids.shape.length === 1 ? g.add(positionsOf(g, split, 2), ids) : ids;
    const turned = rotate(
      c,
      split,
      anglesAt(c, cosTable, sinTable, positions),
      intAttribute(node, "interleaved", 0) === 1,
    );
    return [isFlat ? mergeHeads(g, turned) : turned];
  },
} satisfies Record<string, Expansion>;
