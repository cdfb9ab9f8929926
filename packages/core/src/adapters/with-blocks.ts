import type { Method } from "../methods/method.ts";
import type { Model } from "../onnx/ir.ts";
import { findAttention } from "./attention/find-attention.ts";
import type { Site } from "./site.ts";
import { findTokens } from "./tokens/find-tokens.ts";

/** Modules and, where a method adapts them, attention blocks and the sequence's tokens: these are looked for only then. */
export function withBlocks(model: Model, modules: readonly Site[], { kinds }: Pick<Method, "kinds">): Site[] {
  const has = (kind: Site["kind"]): boolean => modules.some((site) => site.kind === kind);
  return [
    ...modules,
    ...(kinds.includes("attention") && !has("attention") ? findAttention(model, modules) : []),
    ...(kinds.includes("tokens") && !has("tokens") ? findTokens(model, modules) : []),
  ];
}
