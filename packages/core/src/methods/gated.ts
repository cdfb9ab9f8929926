import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { gateOf } from "./bottleneck-block.ts";
import { roleOf } from "./dense.ts";
import type { KeysAndValues } from "./forward-input.ts";
import { normal, zeros } from "./init.ts";
import { type ByRole, declared, type Method } from "./method.ts";

const gateStd = 0.02;
const known = new WeakMap<Method, Method>();

/** Width of what a gate reads: the module's input, the branch's, or the hidden states that an attention block projects. */
function gateWidth(method: Method, config: object, { name, inFeatures, attention, sublayer }: SiteShape): number {
  const width = attention
    ? attention.hidden
    : declared(method.place, config) === "sublayer"
      ? (sublayer?.inFeatures ?? null)
      : inFeatures;
  if (width !== null) return width;
  throw new PeftError("NO_GATE", `There is nothing of one width that a gate could read at "${name}".`);
}

const gateAt = (g: Builder, x: Value, values: ByRole<Value>, meanOverTokens: (value: Value) => Value): Value =>
  gateOf(g, x, { weight: roleOf(values, "gate"), bias: roleOf(values, "gateBias") }, meanOverTokens);

/** Of [batch, tokens, width]. @throws PeftError GATE_TOKENS */
const meanOfSequence =
  (g: Builder, { name }: SiteShape) =>
  (value: Value): Value => {
    if (value.shape.length === 3) return g.reduceMean(value, [1]);
    throw new PeftError(
      "GATE_TOKENS",
      `A gate is a mean over tokens; at "${name}" values have ${value.shape.length} axes that are not batch and tokens.`,
      { hint: "Export the model with axes of batch and tokens, or leave the gate out." },
    );
  };

/**
 * A method whose effect at every place is multiplied by a trained gate γ(x) in (0, 1), one per sequence: the mean over tokens of
 * σ(x·gᵀ + b). UniPELT, Mao et al. 2022, arXiv 2110.07577, as AdapterHub computes it.
 *   at modules and branches y' = y + γ(x)·(f(x, y) - y); at attention blocks γ multiplies the added keys and values.
 * Start: g ~ N(0, 0.02²), b = 0, so γ is near a half. The same object for the same method.
 */
export function gated(method: Method): Method {
  const found = known.get(method);
  if (found) return found;
  const { forward, attend, swap } = method;
  const prefix = `${method.type.toLowerCase()}_gate`;
  const result: Method = {
    ...method,
    kinds: method.kinds.filter((kind) => kind === "linear" || kind === "attention"),
    keys: { ...method.keys, gate: `${prefix}.weight`, gateBias: `${prefix}.bias` },
    parameters(site, config, all) {
      const own = method.parameters(site, config, all);
      if (Object.values(own).some((spec) => spec.replaces !== undefined)) {
        throw new PeftError("NO_GATE", `${method.type} takes the place of frozen values, which a gate cannot weigh.`);
      }
      return {
        ...own,
        gate: { shape: [1, gateWidth(method, config, site)], init: normal(gateStd) },
        gateBias: { shape: [1], init: zeros },
      };
    },
    forward(g, at, values, config) {
      const change = g.sub(forward(g, at, values, config), at.y);
      return g.add(at.y, g.mul(change, gateAt(g, at.x, values, at.meanOverTokens)));
    },
    delta: null,
    noDelta: "its gate depends on the input",
  };
  const gates = {
    ...(attend
      ? {
          attend: ((g, at, values, config) => {
            const { join, beside } = attend(g, at, values, config);
            const gate = g.unsqueeze(gateAt(g, at.hidden(), values, meanOfSequence(g, at.site)), [3]);
            const weighed = (kv: KeysAndValues): KeysAndValues => ({
              keys: g.mul(kv.keys, gate),
              values: () => g.mul(kv.values(), gate),
            });
            return {
              ...(join ? { join: weighed(join) } : {}),
              ...(beside ? { beside: { ...beside, ...weighed(beside) } } : {}),
            };
          }) satisfies NonNullable<Method["attend"]>,
        }
      : {}),
    ...(swap
      ? {
          swap: {
            ...swap,
            tensors: ((tensors, config) => {
              const { gate, gateBias, ...own } = tensors;
              return { ...swap.tensors(own, config), ...(gate && gateBias ? { gate, gateBias } : {}) };
            }) satisfies NonNullable<Method["swap"]>["tensors"],
          },
        }
      : {}),
  };
  const complete = { ...result, ...gates };
  known.set(method, complete);
  return complete;
}
