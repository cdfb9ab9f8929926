import { createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import { attentionBias, encoderBlock, linear } from "../../models/encoder-block.ts";
import { weightReader } from "../../models/weights.ts";
import type { Model } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { testRandom } from "../../testing/check-gradient.ts";

const [vocabulary, hidden, intermediate, outputs] = [11, 8, 12, 3];
const at = "encoder.layer.0";
const names = {
  ...{ query: `${at}.attention.self.query`, key: `${at}.attention.self.key`, value: `${at}.attention.self.value` },
  ...{ output: `${at}.attention.output.dense`, attentionNorm: `${at}.attention.output.LayerNorm` },
  ...{ up: `${at}.intermediate.dense`, down: `${at}.output.dense`, outputNorm: `${at}.output.LayerNorm` },
};

/** One layer of an encoder as `models/` builds it, hidden states [batch * tokens, hidden]: input_ids, attention_mask to logits. */
export function flatEncoder(): Model {
  const random = testRandom(17);
  const shapes: Record<string, number[]> = {
    ...{ "embeddings.weight": [vocabulary, hidden], "head.weight": [outputs, hidden], "head.bias": [outputs] },
    ...Object.fromEntries(
      Object.values(names).flatMap((name) => {
        const out = name === names.up ? intermediate : hidden;
        const width = name === names.down ? intermediate : hidden;
        return [
          [`${name}.weight`, /LayerNorm/.test(name) ? [hidden] : [out, width]],
          [`${name}.bias`, [out]],
        ] as const;
      }),
    ),
  };
  const tensors = new Map(
    Object.entries(shapes).map(([name, dims]) => {
      const values = Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1);
      return [name, tensorFrom("float32", dims, values)];
    }),
  );
  const g = createBuilder(21);
  const w = weightReader(g, tensors);
  const [ids, mask] = ["input_ids", "attention_mask"].map((name) => g.input(name, "int64", ["batch", "tokens"]));
  if (!ids || !mask) throw new Error("two inputs");
  const sizes = {
    ...{ hiddenSize: hidden, heads: 2, intermediateSize: intermediate, layerNormEps: 1e-5 },
    ...{ hiddenDropout: 0, attentionDropout: 0, activation: "gelu" as const },
  };
  const x = g.reshape(
    g.gather(w.weight("embeddings.weight", [vocabulary, hidden]), ids),
    ["batch*tokens", hidden],
    ids,
  );
  const states = encoderBlock(g, w, names, x, attentionBias(g, mask), "batch", "tokens", sizes);
  const means = g.reduceMean(g.reshape(states, ["batch", "tokens", hidden]), [1], false);
  g.output(linear(g, w, "head", means, hidden, outputs), "logits");
  w.check();
  return toModel(g.finish({ name: "flat" }), 21);
}
