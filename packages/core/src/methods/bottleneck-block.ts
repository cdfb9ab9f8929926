import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import type { BlockConfig, BlockPlacement } from "./bottleneck-config.ts";
import { roleOf } from "./dense.ts";
import type { ForwardInput } from "./forward-input.ts";
import { normal, ones, zeros } from "./init.ts";
import type { ByRole, ParameterSpec } from "./method.ts";

/** PyTorch's epsilon of LayerNorm. */
const epsilon = 1e-5;
const gateStd = 0.02;

/** Width of what an adapter reads and of what it writes. */
export const blockWidths = (
  { outFeatures, sublayer }: SiteShape,
  placement: BlockPlacement,
  { parallelInput }: BlockConfig,
): { readonly read: number; readonly written: number } => ({
  read:
    placement === "pfeifferParallel" && parallelInput === "branch"
      ? (sublayer?.inFeatures ?? outFeatures)
      : outFeatures,
  written: outFeatures,
});

/** The tensors of an adapter besides its two projections. */
export function blockParameters(
  { read, written }: { readonly read: number; readonly written: number },
  config: BlockConfig,
): Record<string, ParameterSpec> {
  // An absent adapter's own norms are zero, so that nothing comes out of them.
  const norm = (which: string, width: number): Record<string, ParameterSpec> => ({
    [`${which}Weight`]: { shape: [width], init: ones },
    [`${which}Bias`]: { shape: [width], init: zeros },
  });
  const { scaling, lnBefore, lnAfter, useGating } = config;
  return {
    ...(lnBefore ? norm("lnBefore", read) : {}),
    ...(lnAfter ? norm("lnAfter", written) : {}),
    ...(typeof scaling === "string" ? { scaling: { shape: [scaling === "channel" ? written : 1], init: ones } } : {}),
    ...(useGating ? { gate: { shape: [1, read], init: normal(gateStd) }, gateBias: { shape: [1], init: zeros } } : {}),
  };
}

/** Keys of {@link blockParameters}. */
export const blockKeys: Readonly<Record<string, string>> = {
  lnBeforeWeight: "adapter_norm_before.weight",
  lnBeforeBias: "adapter_norm_before.bias",
  lnAfterWeight: "adapter_norm_after.weight",
  lnAfterBias: "adapter_norm_after.bias",
  scaling: "adapter_scaling",
  gate: "adapter_gate.weight",
  gateBias: "adapter_gate.bias",
};

/** Mean over the tokens of σ(x·gᵀ + b), one per sequence. */
export const gateOf = (
  g: Builder,
  x: Value,
  { weight, bias }: { readonly weight: Value; readonly bias: Value },
  meanOverTokens: (value: Value) => Value,
): Value => meanOverTokens(g.sigmoid(g.add(g.fusedMatMul(x, weight, { transB: true }), bias)));

/**
 * The result h' of a residual branch with an adapter, in place of its result h beside the residual stream r. With N the layer's
 * norm of the sum (identity where there is none) and A(u) = gate(u) · drop(s · project(norm(u))):
 *   houlsby  h' = h + A(h)            (originalLnBefore false)
 *   pfeiffer h' = h + A(N(h + r))     (originalLnBefore true; residualBeforeLn false: h' = N(h + r) + A(N(h + r)))
 *   parallel h' = h + A(r)
 * `lnAfter` norms A(u), with `adapterResidualBeforeLn` h + A(u). Shapes: h, r [..., width].
 */
export function blockForward(
  g: Builder,
  at: ForwardInput,
  values: ByRole<Value>,
  config: BlockConfig,
  placement: BlockPlacement,
  project: (input: Value) => Value,
): Value {
  const { x, y, site, sublayer } = at;
  if (!sublayer) throw new PeftError("NO_SUBLAYER", `"${site.name}" ends no residual branch.`);
  const sum = (): Value => g.add(y, sublayer.residual());
  const isParallel = placement === "pfeifferParallel";
  const readsNorm = !isParallel && config.originalLnBefore;
  const input = (): Value => {
    if (isParallel) return config.parallelInput === "branch" ? x : sublayer.residual();
    return readsNorm ? sublayer.norm(sum()) : y;
  };
  const u = input();
  const residual = !readsNorm || config.residualBeforeLn === true ? y : config.residualBeforeLn === false ? u : sum();
  const norm = (which: string, v: Value): Value =>
    g.layerNormalization(v, roleOf(values, `${which}Weight`), roleOf(values, `${which}Bias`), epsilon);
  const { scaling, dropout, useGating, lnBefore, lnAfter, adapterResidualBeforeLn } = config;
  const up = project(lnBefore ? norm("lnBefore", u) : u);
  const scaled = scaling === 1 ? up : g.mul(up, typeof scaling === "number" ? scaling : roleOf(values, "scaling"));
  let adapted = g.dropout(scaled, dropout);
  if (useGating) {
    const gate = { weight: roleOf(values, "gate"), bias: roleOf(values, "gateBias") };
    adapted = g.mul(adapted, gateOf(g, u, gate, at.meanOverTokens));
  }
  if (!lnAfter) return g.add(residual, adapted);
  const inside = adapterResidualBeforeLn && !isParallel;
  return inside ? norm("lnAfter", g.add(residual, adapted)) : g.add(residual, norm("lnAfter", adapted));
}
