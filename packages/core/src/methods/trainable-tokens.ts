import { z } from "zod";
import { PeftError } from "../errors.ts";
import { roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod, type FrozenSite } from "./method.ts";

// 1. Config
export const trainableTokensConfig = z.strictObject({
  /** Rows of the embedding that are trained. */
  tokenIndices: z.array(z.int().min(0)).min(1).max(100_000),
});
export type TrainableTokensConfig = z.output<typeof trainableTokensConfig>;

/** The chosen rows of an embedding [rows, width]. */
function rowsOf(frozen: FrozenSite, width: number, tokens: readonly number[]): Float32Array {
  const weight = frozen.weight();
  const rows = new Float32Array(tokens.length * width);
  tokens.forEach((token, k) => {
    rows.set(weight.subarray(token * width, (token + 1) * width), k * width);
  });
  return rows;
}

/**
 * Trainable tokens: chosen rows of an embedding are trained, the rest is frozen (textual inversion, new special tokens). `peft`'s type of
 * the same name. The tensor [tokens, width] holds the rows themselves. y + [id = token_k]·(row_k - W[token_k]).
 */
export const trainableTokens = defineMethod<TrainableTokensConfig>({
  type: "TRAINABLE_TOKENS",
  paper: null,
  kinds: ["embedding"],
  identityAtStart: true,
  neutral: "empty",
  config: trainableTokensConfig,
  defaultTargets: ({ name }) => /(^|\.)(embed_tokens|word_embeddings|wte|token_embedding|shared)$/.test(name),
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { tokenIndices }) {
    const outside = tokenIndices.find((token) => token >= inFeatures);
    if (outside !== undefined || new Set(tokenIndices).size !== tokenIndices.length) {
      throw new PeftError(
        "CONFIG_INVALID",
        `Expected different tokens below ${inFeatures} for "${name}", received ${outside ?? "one of them twice"}.`,
      );
    }
    const neutral = (frozen: FrozenSite): Float32Array => rowsOf(frozen, outFeatures, tokenIndices);
    return { rows: { shape: [tokenIndices.length, outFeatures], init: zeros, neutral } };
  },
  start: ({ site, config, frozen }) => ({ rows: rowsOf(frozen, site.outFeatures, config.tokenIndices) }),
  // 3. Forward
  forward(g, { x, y, weight }, values, { tokenIndices }) {
    const tokens = g.constant(x.type, tokenIndices);
    const chosen = g.cast(g.equal(g.unsqueeze(x, [-1]), tokens), "float32"); // [..., tokens]
    const change = g.sub(roleOf(values, "rows"), g.gather(weight(), g.constant("int64", tokenIndices)));
    return g.add(y, g.matMul(chosen, change));
  },
  // 4. Delta
  delta(tensors, { tokenIndices }, { inFeatures, outFeatures }, frozen) {
    const rows = roleOf(tensors, "rows").data;
    const before = rowsOf(frozen, outFeatures, tokenIndices);
    const add = new Float32Array(inFeatures * outFeatures);
    tokenIndices.forEach((token, k) => {
      for (let i = 0; i < outFeatures; i++)
        add[token * outFeatures + i] = (rows[k * outFeatures + i] as number) - (before[k * outFeatures + i] as number);
    });
    return { weight: { add } };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { rows: "trainable_tokens_delta" },
});
