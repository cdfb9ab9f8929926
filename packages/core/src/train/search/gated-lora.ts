import type { SiteShape } from "../../adapters/site.ts";
import { roleOf } from "../../methods/dense.ts";
import { constant, kaimingUniform, zeros } from "../../methods/init.ts";
import { lora } from "../../methods/lora.ts";
import { defineMethod, type ParameterSpec } from "../../methods/method.ts";
import type { Value } from "../../onnx/ir.ts";
import { layersOf } from "./module-table.ts";
import { type DifforaConfig, difforaConfig } from "./search-options.ts";

/** The logits of all gates, one per module in the order of the modules. */
export const GATES = "base_model.diffora_logits";

const indices = (all: readonly SiteShape[], chosen: (name: string) => boolean): Float32Array =>
  Float32Array.from(all, ({ name }) => (chosen(name) ? 1 : 0));

/**
 * LoRA whose update at every module is multiplied by a gate: y = x·Wᵀ + g s (x·Aᵀ)·Bᵀ. All gates are made from one vector of logits a; the
 * gradient of a gate is dg/da · <dL/dy, s x·Aᵀ·Bᵀ>, and zero while B is. Used while modules are searched; what remains is plain LoRA.
 * A [r, in], B [out, r], logits [modules]; `own` and `layer` [modules] say which logits are the module's and its layer's.
 */
export const gatedLora = defineMethod<DifforaConfig>({
  type: "DIFFORA_SEARCH",
  paper: "2502.08905",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  // 1. Config
  config: difforaConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { r }, all) {
    const fixed = { trainable: false, saved: false } as const;
    const layerOf = layersOf(all.map((site) => site.name));
    const mask = (chosen: (other: string) => boolean): ParameterSpec => ({
      ...{ shape: [all.length], init: () => indices(all, chosen) },
      ...fixed,
    });
    return {
      A: { shape: [r, inFeatures], free: ["r", null], init: kaimingUniform(Math.sqrt(5)) },
      B: { shape: [outFeatures, r], free: [null, "r"], init: zeros },
      own: mask((other) => other === name),
      layer: mask((other) => layerOf.get(other) === layerOf.get(name)),
    };
  },
  shared: (sites, { relaxation }) => ({
    logits: { shape: [sites.length], init: relaxation === "none" ? constant(1) : zeros },
  }),
  // 3. Forward
  forward(g, { x, y }, values, { r, alpha, dropout, relaxation }) {
    const [logits, own, layer] = [roleOf(values, "logits"), roleOf(values, "own"), roleOf(values, "layer")];
    const h = g.fusedMatMul(g.dropout(x, dropout), roleOf(values, "A"), { transB: true, alpha: alpha / r });
    const gates = (): Value => {
      if (relaxation === "none") return logits;
      if (relaxation === "sigmoid") return g.sigmoid(logits);
      // Other layers are out of reach of exp, so a softmax over all is one over the layer.
      const inLayer = g.add(logits, g.mul(g.sub(layer, 1), 1e9));
      return g.mul(g.softmax(inLayer), g.reduceSum(layer, [0]));
    };
    const gate = g.reduceSum(g.mul(gates(), own), [0]); // [1]
    return g.add(y, g.fusedMatMul(g.mul(h, gate), roleOf(values, "B"), { transB: true }));
  },
  // 4. Delta
  delta: null,
  noDelta: "it only lives while modules are searched: its result is a LoRA adapter",
  // 5. Keys: those of LoRA, which goes on with them
  keys: { A: lora.keys["A"] ?? "", B: lora.keys["B"] ?? "", own: "diffora_own", layer: "diffora_layer" },
  sharedKeys: { logits: GATES },
});
