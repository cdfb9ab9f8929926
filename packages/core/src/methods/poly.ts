import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf } from "./dense.ts";
import { uniform, zeros } from "./init.ts";
import { type ByRole, defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const polyConfig = z.strictObject({
  /** Rank of every skill. */
  r: z.int().positive().max(65_536).default(8),
  /** Start with B = 0; false draws B as PyTorch draws a Linear. */
  initWeights: z.boolean().default(true),
  polyType: z.literal("poly").default("poly"),
  nTasks: z.int().positive().max(1_000_000).default(1),
  nSkills: z.int().positive().max(65_536).default(4),
  /** Parts of inputs and outputs that are routed apart: multi-head routing. Divides the widths of the modules. */
  nSplits: z.int().positive().max(65_536).default(1),
});
export type PolyConfig = z.output<typeof polyConfig>;

/** What keeps a sum of weights from being zero. */
const epsilon = 1e-12;

/** Σ_s w[b, q, s]·T[q, s, ...] as [q, b, rows, columns] for w [b, q, s] and T [q, s, rows, columns]. */
function mixed(g: Builder, weights: Value, skills: Value): Value {
  const [q, s, rows, columns] = skills.shape.map(Number) as [number, number, number, number];
  const flat = g.reshape(skills, [q, s, rows * columns]);
  return g.reshape(g.matMul(g.transpose(weights, [1, 0, 2]), flat), [q, at(weights.shape, 0), rows, columns]);
}

/** Shares of the skills [batch, splits, skills]; in training drawn from relaxed Bernoulli variables. */
function shares(g: Builder, values: ByRole<Value>, taskIds: Value, { nSplits, nSkills }: PolyConfig): Value {
  const logits = g.gather(roleOf(values, "logits"), taskIds);
  const weights = g.reshape(g.sigmoid(g.logisticNoise(logits)), [at(taskIds.shape, 0), nSplits, nSkills]);
  return g.div(weights, g.add(g.reduceSum(weights, [2]), epsilon));
}

/**
 * Poly: an inventory of LoRA skills at every module, mixed for each row by the task that it belongs to,
 *   y' = y + x·A(t)·B(t) / r, A(t) = Σ_s w_s A_s, B(t) = Σ_s w_s B_s, w = σ(z_t) / Σ σ(z_t).
 * Ponti et al. 2022, arXiv 2202.13914; with `nSplits` above 1 parts of the width have shares of their own (multi-head routing,
 * Caccia et al. 2022, arXiv 2211.03831). In training w comes from relaxed Bernoulli variables of temperature 1, as in `peft`.
 * Shapes: A [splits, skills, in / splits, r], B [splits, skills, r, out / splits], z [tasks, splits · skills].
 * Parameters: skills r (in + out) + tasks splits skills.
 *
 * The graph has an input "poly.task_ids", int64 [batch], that batches feed beside the model's own. What a task makes of the
 * inventory is a LoRA adapter, which merges: `polyTask`.
 * @example
 * const adapted = injectAdapter(model, { method: poly, config: { nTasks: 3, targetModules: ["query", "value"] } });
 */
export const poly = defineMethod<PolyConfig>({
  type: "POLY",
  paper: "2202.13914",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: polyConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { r, nSplits, nSkills, nTasks, initWeights }) {
    if (inFeatures % nSplits !== 0 || outFeatures % nSplits !== 0) {
      throw sizeError(`nSplits ${nSplits}`, inFeatures, outFeatures);
    }
    const width = inFeatures / nSplits;
    return {
      A: { shape: [nSplits, nSkills, width, r], init: uniform(1 / Math.sqrt(width)) },
      B: {
        shape: [nSplits, nSkills, r, outFeatures / nSplits],
        init: initWeights ? zeros : uniform(1 / Math.sqrt(r)),
      },
      logits: { shape: [nTasks, nSplits * nSkills], init: uniform(1e-3) },
    };
  },
  rowInputs: () => ({ taskIds: { type: "int64", shape: [] } }),
  // 3. Forward: skills are mixed before they meet the tokens.
  forward(g, { x, y, site, rows }, values, config) {
    const taskIds = roleOf(rows, "taskIds");
    const weights = shares(g, values, taskIds, config);
    const batch = at(taskIds.shape, 0);
    const { r } = config;
    const A = g.reshape(g.transpose(mixed(g, weights, roleOf(values, "A")), [1, 0, 2, 3]), [batch, site.inFeatures, r]);
    const B = g.reshape(g.transpose(mixed(g, weights, roleOf(values, "B")), [1, 2, 0, 3]), [
      batch,
      r,
      site.outFeatures,
    ]);
    const perRow = x.shape[0] === batch ? 1 : "?tokens"; // without a sequence every row is a token
    const tokens = x.shape.length === 3 ? x : g.reshape(x, [batch, perRow, site.inFeatures]);
    const update = g.matMul(g.fusedMatMul(tokens, A, { alpha: 1 / r }), B);
    return g.add(y, g.reshapeLike(update, y));
  },
  // 4. Delta
  delta: null,
  noDelta: "its change is another one for every task; polyTask gives that of one task",
  // 5. Keys
  keys: { A: "poly_lora_A", B: "poly_lora_B", logits: "poly_router.module_logits" },
});
