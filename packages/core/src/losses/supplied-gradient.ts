import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { LossParts } from "./loss-parts.ts";
import { total } from "./sums.ts";

/** Name of the input that feeds an output's gradient. */
export const suppliedName = (output: string): string => `supplied:${output}`;
/** Scalar inputs: what makes the sum a run's share of L's own, and a run's share of L's weight. */
export const SUPPLIED_OFFSET = "supplied.offset";
export const SUPPLIED_WEIGHT = "supplied.weight";

/**
 * A loss that is computed elsewhere: with outputs y of the model and dL/dy fed, the sum of y * dL/dy, whose gradient with respect to
 * all that y depends on is that of L. {@link openGradientCache} makes the feeds.
 * @param outputs by name; the graph gets an input "supplied:<name>" of each one's shape.
 * @throws PeftError LOSS_OPTION for a graph with dropout: the gradient belongs to outputs of another run, with other masks
 * @example
 * const loss = suppliedGradient(adapted.g, { text_embeds: textEmbeds });
 */
export function suppliedGradient(g: Builder, outputs: Readonly<Record<string, Value>>): LossParts {
  const { sites } = g.dropoutPlan;
  if (sites.length > 0) {
    throw new PeftError("LOSS_OPTION", `Expected a graph without dropout, received one with ${sites.length} places.`, {
      hint: "Set the dropout of the adapter to 0 and inject it with training: false.",
    });
  }
  const products = Object.entries(outputs).map(([name, y]) =>
    total(g, g.mul(y, g.input(suppliedName(name), y.type, y.shape))),
  );
  const offset = g.input(SUPPLIED_OFFSET, "float32", []);
  return {
    sum: products.reduce((sum, product) => g.add(sum, product), offset),
    weight: g.input(SUPPLIED_WEIGHT, "float32", []),
  };
}
