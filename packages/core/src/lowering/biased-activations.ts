import { type Expansion, required } from "./expansion.ts";

/**
 * Activations with the bias of the layer before them inside. Taken out, the bias belongs to its layer again: it is part of
 * the site, and the layer's biased output is visible. ONNX Runtime fuses the two once more where it gains.
 */
export const biasedActivations = {
  /** Y = Gelu(X + bias), erf form. */
  "com.microsoft::BiasGelu": (c) => {
    const x = c.g.add(required(c, 0), required(c, 1));
    return c.g.op("Gelu", [x], {}, { domain: "com.microsoft" });
  },
  /** Y = Gelu(X + bias), tanh form; without bias there is nothing to take apart. */
  "com.microsoft::FastGelu": (c) => {
    const bias = c.inputs[1];
    if (!bias) return null;
    return c.g.op("FastGelu", [c.g.add(required(c, 0), bias)], {}, { domain: "com.microsoft" });
  },
} satisfies Record<string, Expansion>;
