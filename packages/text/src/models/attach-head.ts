import {
  createRandom,
  dropoutNode,
  float,
  importGraph,
  linear,
  type Model,
  PeftError,
  streamSeed,
  tensorFrom,
  toModel,
  type Value,
  weightReader,
} from "@onnx-peft/core";
import { firstToken, type Head } from "./encoder.ts";
import { checkTextInputs } from "./text-inputs.ts";

/** Dropout before a new classifier, as in BERT's own. */
const DROPOUT = 0.1;

/** What exporters call the last hidden states. */
const HIDDEN = /^(last_hidden_state|token_embeddings|output_0)$/;

/**
 * Gives an exported encoder the head a task needs. An export that ends in logits of the right shape is used as it is; one
 * that ends in hidden states [batch, sequence, size] gets a linear classifier named "classifier", over the first token or
 * over every token. (transformers' BERT has a pooler between the first token and the classifier, which exports lack: a
 * sequence classifier trained here is complete in our files, but peft cannot load it into `BertForSequenceClassification`.)
 * @throws PeftError HEAD_MISMATCH when neither fits; MODEL_INPUTS; OPSET
 */
export function attachHead(model: Model, head: Head, seed: number | string): { model: Model; initialized: string[] } {
  const { graph } = model;
  checkTextInputs(graph);
  const outputs = graph.outputs.filter((v) => v.name !== "logits");
  const hidden = outputs.find((v) => HIDDEN.test(v.name)) ?? outputs.find((v) => v.shape.length === 3);
  if (head.type === "none") {
    if (hidden) return { model, initialized: [] };
    throw mismatch(model, "hidden states [batch, sequence, size]");
  }
  if (head.type === "masked-lm")
    throw mismatch(model, "a masked-language head, which is trained from safetensors only");
  const opset = opsetOf(model);
  const g = importGraph(graph, opset);
  const perToken = head.type === "token-classification";
  const logits = graph.outputs.some((v) => v.name === "logits") ? g.value("logits").shape : null;
  if (logits?.length === (perToken ? 3 : 2) && logits.at(-1) === head.labels) return { model, initialized: [] };
  if (!hidden) throw mismatch(model, `logits for ${head.labels} labels, or hidden states to put a classifier on`);
  const states = g.value(hidden.name);
  const [batch, tokens, size] = states.shape;
  if (batch === undefined || tokens === undefined || typeof size !== "number")
    throw mismatch(model, "hidden states [batch, sequence, size] of a known size");
  const values = createRandom(streamSeed(seed, "head", "classifier")).fillNormal(
    new Float32Array(head.labels * size),
    0,
    0.02,
  );
  const w = weightReader(
    g,
    new Map([
      ["classifier.weight", tensorFrom("float32", [head.labels, size], values)],
      ["classifier.bias", tensorFrom("float32", [head.labels], new Float32Array(head.labels))],
    ]),
  );
  const rows = perToken ? g.toMatrix(states) : firstToken(g, states);
  // Before opset 12 the probability is an attribute.
  const dropped =
    opset < 12 ? (g.op("Dropout", [rows], { ratio: float(DROPOUT) })[0] as Value) : dropoutNode(g, rows, DROPOUT);
  const scores = linear(g, w, "classifier", dropped, size, head.labels);
  w.check();
  g.output(perToken ? g.reshape(scores, [batch, tokens, head.labels], states) : scores, "logits");
  return {
    model: toModel(g.finish({ name: graph.name, keepDropout: true }), opset, model.metadata),
    initialized: ["classifier"],
  };
}

/** @throws PeftError OPSET */
export function opsetOf(model: Model): number {
  const opset = model.opsets.get("") ?? model.opsets.get("ai.onnx");
  if (opset === undefined) throw new PeftError("OPSET", "The model does not say which opset of ONNX it is written in.");
  return opset;
}

function mismatch(model: Model, needed: string): PeftError {
  const outputs = model.graph.outputs.map((v) => `${v.name} [${v.shape.join(", ")}]`).join(", ");
  return new PeftError("HEAD_MISMATCH", `The task needs ${needed}; the file's outputs are ${outputs}.`);
}
