import { differentiate } from "../autodiff/differentiate.ts";
import { PeftError } from "../errors.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import { SUPPLIED_OFFSET, SUPPLIED_WEIGHT, suppliedName } from "../losses/supplied-gradient.ts";
import type { Value } from "../onnx/ir.ts";
import type { Feeds, Outputs, RuntimeTensor } from "../runtime/runtime.ts";
import { type ForwardRunOptions, openForward } from "./forward-runs.ts";
import { joinFeeds } from "./join-feeds.ts";
import { floats } from "./member.ts";
import { gradientName, LOSS_SUM, LOSS_WEIGHT } from "./output-names.ts";
import { buildEvaluationProgram } from "./program.ts";

export interface GradientCacheOptions extends Pick<ForwardRunOptions, "isolation" | "threads" | "device"> {
  /** Size of each kind of embedding, by the name of the output that gives it. */
  readonly embeddings: Readonly<Record<string, number>>;
  /** The loss of a whole batch, of embeddings [rows, size]. It may have further inputs, labels for instance. */
  loss(g: Builder, embeddings: Readonly<Record<string, Value>>): LossParts;
}

/** A model, or one of the towers of a model, and the part of a batch that is for it. */
export interface CachedTower {
  /** Feeds of its runs; their rows in order are the batch. */
  readonly chunks: readonly Feeds[];
  /** Embeddings [rows, size] of a chunk with the present parameters, by name. */
  embed(chunk: Feeds): Promise<Outputs>;
}

export interface CachedGradients {
  /** Mean loss of the batch. */
  readonly loss: number;
  /** For each tower its chunks, fed with the gradients of their embeddings: the runs of a step. */
  readonly runs: readonly (readonly Feeds[])[];
}

export interface GradientCache extends AsyncDisposable {
  /**
   * @param feeds of the loss's further inputs
   * @throws PeftError EMBEDDINGS when a kind of embedding comes from no tower or several, or not from all its chunks
   */
  gradients(towers: readonly CachedTower[], feeds?: Feeds): Promise<CachedGradients>;
}

/**
 * Losses that compare all samples of a batch, with the memory of a part of it (GradCache: Gao et al. 2021, arXiv 2101.06983):
 * embeddings are computed chunk by chunk and nothing else is kept; one small graph gives the loss and its gradient with respect to
 * every embedding; a step then runs the chunks again, each with its embeddings' gradients ({@link suppliedGradient}), which add up
 * to the gradient of the whole batch. Costs one more forward pass.
 *
 * @example
 * const program = buildAdapterProgram(adapted, suppliedGradient(adapted.g, { image_embeds, text_embeds }));
 * const evaluation = buildEvaluationProgram(forward.g, { image_embeds, text_embeds }, adapterValues(forward));
 * const engine = await createEngine(onnxruntimeNode, { training: program, evaluation, parameters, optimizer, seed: 42 });
 * await using cache = await openGradientCache({
 *   embeddings: { image_embeds: 512, text_embeds: 512 },
 *   loss: (g, { image_embeds, text_embeds }) =>
 *     multipleNegatives(g, { anchors: image_embeds, positives: text_embeds }, { temperature: 0.01, symmetric: true }),
 * });
 * const { runs: [runs] } = await cache.gradients([{ chunks, embed: engine.evaluate }]);
 * await engine.step({ step, runs, learningRateScale: 1 }); // its loss is that of the whole batch
 */
export async function openGradientCache({
  embeddings,
  loss,
  isolation = "inline",
  ...options
}: GradientCacheOptions): Promise<GradientCache> {
  const names = Object.keys(embeddings);
  const program = lossProgram(embeddings, loss);
  const forward = await openForward(program, { isolation, ...options });
  return {
    async gradients(towers, feeds = {}) {
      const parts: Outputs[][] = [];
      for (const { chunks, embed } of towers) {
        const own: Outputs[] = [];
        for (const chunk of chunks) own.push(await embed(chunk));
        parts.push(own);
      }
      const all = names.map((name) => joinFeeds(embeddingsOf(name, parts), {}));
      const outputs = await forward.run(Object.assign({}, feeds, ...all));
      const [sum, weight] = [scalarOf(outputs, LOSS_SUM), scalarOf(outputs, LOSS_WEIGHT)];
      const runs = towers.map(({ chunks }, tower) => {
        const share = { sum: sum / chunks.length, weight: weight / chunks.length };
        const supplied = suppliedFeeds(parts[tower] ?? [], names, outputs, share);
        return chunks.map((chunk, k) => ({ ...chunk, ...supplied[k] }));
      });
      return { loss: sum / weight, runs };
    },
    [Symbol.asyncDispose]: () => forward[Symbol.asyncDispose](),
  };
}

/** Loss, weight, and the gradient of the loss with respect to each kind of embedding. */
function lossProgram(sizes: GradientCacheOptions["embeddings"], loss: GradientCacheOptions["loss"]) {
  const g = createBuilder();
  const values = Object.entries(sizes).map(([name, size]) => g.input(name, "float32", [`${name}.rows`, size]));
  const parts = loss(g, Object.fromEntries(values.map((value) => [value.name, value])));
  const gradients = differentiate(g, [{ value: parts.sum }], values);
  const named = values.map(({ name }, i) => [gradientName(name), gradients[i] as Value] as const);
  return buildEvaluationProgram(
    g,
    { [LOSS_SUM]: parts.sum, [LOSS_WEIGHT]: parts.weight, ...Object.fromEntries(named) },
    [],
  );
}

const scalarOf = (outputs: Outputs, name: string): number => floats(outputs[name], name)[0] ?? Number.NaN;

/** Embeddings of a kind, from all chunks of the one tower that gives them. */
function embeddingsOf(name: string, parts: readonly (readonly Outputs[])[]): Feeds[] {
  const giving = parts.filter((own) => own.some((outputs) => outputs[name]));
  const found = giving.flat().flatMap(({ [name]: embedding }) => (embedding ? [{ [name]: embedding }] : []));
  if (giving.length === 1 && found.length === giving[0]?.length) return found;
  throw new PeftError(
    "EMBEDDINGS",
    `Expected "${name}" from all chunks of one tower, received it from ${giving.length} of ${parts.length} towers.`,
    { hint: "Each tower's `embed` gives outputs of its own, the same for all of its chunks." },
  );
}

const scalar = (value: number): RuntimeTensor => ({ type: "float32", dims: [], data: Float32Array.of(value) });

/** The inputs of `suppliedGradient` for each chunk of a tower; `share` is a chunk's part of the loss. */
function suppliedFeeds(
  chunks: readonly Outputs[],
  names: readonly string[],
  gradients: Outputs,
  share: { readonly sum: number; readonly weight: number },
): Feeds[] {
  const begun = new Map<string, number>();
  return chunks.map((outputs) => {
    const feeds: Record<string, RuntimeTensor> = {};
    let products = 0;
    for (const name of names) {
      const embedding = outputs[name];
      if (!embedding) continue;
      const values = floats(embedding, name);
      const from = begun.get(name) ?? 0;
      begun.set(name, from + values.length);
      const data = floats(gradients[gradientName(name)], gradientName(name)).slice(from, from + values.length);
      products += data.reduce((sum, d, i) => sum + d * (values[i] as number), 0);
      feeds[suppliedName(name)] = { type: "float32", dims: embedding.dims, data };
    }
    return { ...feeds, [SUPPLIED_OFFSET]: scalar(share.sum - products), [SUPPLIED_WEIGHT]: scalar(share.weight) };
  });
}
