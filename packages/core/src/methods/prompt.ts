import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

/**
 * The vectors of a sequence [batch, n + tokens, width] whose first n are those of a prompt, [n, width] or [batch, n, width].
 */
export function withPrompt(g: Builder, y: Value, prompt: Value): Value {
  const [batch = 1, , width = 1] = y.shape;
  const n = prompt.shape.at(-2) ?? 0;
  const own = prompt.shape.length === 3 ? prompt : g.expand(g.unsqueeze(prompt, [0]), [batch, n, width]);
  const count = g.shapeTensor([n]);
  const rest = g.sub(g.op("Gather", [g.shapeOf(y), g.ints([1])])[0] as Value, count);
  const [, real] = g.op("Split", [y, g.concat([count, rest], 0)], { axis: 1 }, { count: 2 });
  return g.concat([own, real as Value], 1);
}
