import {
  at,
  createRandom,
  dropoutNode,
  importGraph,
  linear,
  type Model,
  PeftError,
  streamSeed,
  tensorFrom,
  toModel,
  weightReader,
} from "@onnx-peft/core";
import { firstToken, type Head } from "./encoder.ts";

/** Dropout before a new classifier, as in BERT's own. */
const DROPOUT = 0.1;

/**
 * Gives an exported encoder the head a task needs. An export that ends in logits of the right size is used as it is; one
 * that ends in hidden states gets a linear classifier named "classifier", over the first token or over every token.
 * @throws PeftError HEAD_MISMATCH when neither fits.
 */
export function attachHead(model: Model, head: Head, seed: number | string): { model: Model; initialized: string[] } {
  const { graph } = model;
  const logits = graph.outputs.find((v) => v.name === "logits");
  const hidden =
    graph.outputs.find((v) => /^(last_hidden_state|token_embeddings|output_0)$/.test(v.name)) ??
    graph.outputs.find((v) => v.shape.length === 3);
  if (head.type === "none") {
    if (hidden) return { model, initialized: [] };
    throw mismatch(model, "hidden states");
  }
  if (head.type === "masked-lm")
    throw mismatch(model, "a masked-language head, which is trained from safetensors only");
  const opset = model.opsets.get("") ?? 21;
  const g = importGraph(graph, opset);
  if (logits && at(g.value(logits.name).shape, -1) === head.labels) return { model, initialized: [] };
  if (!hidden) throw mismatch(model, `logits for ${head.labels} labels, or hidden states to put a classifier on`);
  const states = g.value(hidden.name);
  const [batch, tokens, size] = states.shape;
  if (batch === undefined || tokens === undefined || typeof size !== "number")
    throw mismatch(model, "hidden states [batch, sequence, size]");
  const random = createRandom(streamSeed(seed, "head", "classifier"));
  const w = weightReader(
    g,
    new Map([
      [
        "classifier.weight",
        tensorFrom("float32", [head.labels, size], random.fillNormal(new Float32Array(head.labels * size), 0, 0.02)),
      ],
      ["classifier.bias", tensorFrom("float32", [head.labels], new Float32Array(head.labels))],
    ]),
  );
  const perToken = head.type === "token-classification";
  const rows = perToken ? g.toMatrix(states) : firstToken(g, states);
  const scores = linear(g, w, "classifier", dropoutNode(g, rows, DROPOUT), size, head.labels);
  g.output(perToken ? g.reshape(scores, [batch, tokens, head.labels], states) : scores, "logits");
  return { model: toModel(g.finish({ name: graph.name }), opset, model.metadata), initialized: ["classifier"] };
}

function mismatch(model: Model, needed: string): PeftError {
  const outputs = model.graph.outputs.map((v) => `${v.name} [${v.shape.join(", ")}]`).join(", ");
  return new PeftError("HEAD_MISMATCH", `The task needs ${needed}; the file's outputs are ${outputs}.`);
}
