import { PeftError } from "../../errors.ts";
import type { Builder } from "../../graph/builder.ts";
import { mergeHeads } from "../../lowering/heads.ts";
import type { AttentionInput } from "../../methods/forward-input.ts";
import type { ByRole } from "../../methods/method.ts";
import type { Dim, Node, Value } from "../../onnx/ir.ts";
import { frozenValues } from "../frozen-values.ts";
import type { SitePlan } from "../parameters.ts";
import { withBatchAxis } from "../row-inputs.ts";
import { rowLayout } from "../row-layout.ts";
import type { AttentionBlock, AttentionSizes, Projection, ScoreStep } from "../site.ts";

/** What takes the place of nodes of a graph, by the name of a node's first output. */
export type Rewrites = ReadonlyMap<string, (g: Builder, node: Node) => void>;

/** The plan of an attention site, and where the values of its roles are found. */
export interface AttentionPlan {
  readonly plan: SitePlan;
  /** Its place among the blocks of the adapter, and their number. */
  readonly index: number;
  readonly count: number;
  values(g: Builder): ByRole<Value>;
}

/** Probabilities of further keys, [batch, heads, tokens, n], and what they weigh. */
interface Term {
  readonly probabilities: Value;
  readonly values: () => Value;
  readonly behindOutput: boolean;
}

/**
 * The rewriting of one attention block. Keys that join the softmax are further columns of its input: softmax([S', S]) is split
 * into P' and P, P goes the way it went before, and P'·V' is added to P·V. So masks, biases and caches of the file stay what
 * they are, and hidden states keep their length.
 */
export function attentionRewrites({ plan, index, count, values }: AttentionPlan): Rewrites {
  const { site, method, config } = plan;
  const { block, attention: sizes } = site;
  if (!block || !sizes || !method.attend) {
    throw new PeftError("METHOD", `${method.type} does not say what it does at the attention block "${site.name}".`);
  }
  const at = { block, sizes, scope: `${site.name}/${method.type.toLowerCase()}` };
  let terms: readonly Term[] = [];
  let behind: Value | null = null;
  const atSoftmax = (g: Builder, node: Node): void => {
    const scores = g.value(node.inputs[0] ?? "");
    const { join, beside } = g.scoped(at.scope, () => {
      const input = attentionInput(g, plan, at, { index, count, batch: scores.shape[0] ?? 1 });
      return method.attend?.(g, input, values(g), config) ?? {};
    });
    const own = beside
      ? g.scoped(at.scope, (): Term => {
          const probabilities = g.softmax(scoresOf(g, at, scores, beside.keys));
          const { values, behindOutput = false } = beside;
          return { probabilities: g.mul(probabilities, beside.gate), values, behindOutput };
        })
      : null;
    const joined = join ? joinKeys(g, at, node, scores, join) : null;
    if (!joined) g.addNode({ ...node });
    terms = [joined, own].filter((term) => term !== null);
  };
  const atProduct = (g: Builder, node: Node): void => {
    const output = node.outputs[0] ?? "";
    const [product] = g.addNode({ ...node, outputs: [`${output}:base`] });
    const sum = g.scoped(at.scope, () => {
      const ofTerms = (late: boolean): Value[] =>
        terms.flatMap((term) => (term.behindOutput === late ? [weighed(g, at, term)] : []));
      behind = ofTerms(true).reduce<Value | null>((total, value) => (total ? g.add(total, value) : value), null);
      return ofTerms(false).reduce((y, value) => g.add(y, g.cast(value, y.type)), product as Value);
    });
    g.op("Identity", [sum], {}, { outputs: [output] });
  };
  const atOutput = (g: Builder, node: Node): void => {
    const output = node.outputs[0] ?? "";
    const [y] = g.addNode({ ...node, outputs: [`${output}:base`] }) as [Value];
    const sum = g.scoped(at.scope, () =>
      behind ? g.add(y, g.cast(g.reshape(mergeHeads(g, behind), y.shape), y.type)) : y,
    );
    g.op("Identity", [sum], {}, { outputs: [output] });
  };
  return new Map([
    [block.softmax.outputs[0] ?? "", atSoftmax],
    [block.valueProduct.outputs[0] ?? "", atProduct],
    [block.output?.use.output ?? "", atOutput],
  ]);
}

/** A block under adaptation. */
interface Place {
  readonly block: AttentionBlock;
  readonly sizes: AttentionSizes;
  readonly scope: string;
}

/** One softmax over further keys and the block's own, whose probabilities keep their name. */
function joinKeys(
  g: Builder,
  at: Place,
  node: Node,
  scores: Value,
  { keys, values }: { readonly keys: Value; readonly values: () => Value },
): Term {
  return g.scoped(at.scope, () => {
    const theirs = scoresOf(g, at, scores, keys);
    const all = g.softmax(g.concat([theirs, scores], 3));
    const sizes = g.shapeTensor([theirs.shape[3] ?? 0, scores.shape[3] ?? 0]);
    const [first, rest] = g.op("Split", [all, sizes], { axis: 3 }, { count: 2 });
    g.op("Identity", [rest as Value], {}, { outputs: [node.outputs[0] ?? ""] });
    return { probabilities: g.dropout(first as Value, at.block.dropout), values, behindOutput: false };
  });
}

function attentionInput(
  g: Builder,
  { site }: SitePlan,
  { block, sizes }: Place,
  { index, count, batch }: { readonly index: number; readonly count: number; readonly batch: Dim },
): AttentionInput {
  const project = (projection: Projection | null, x: Value, width: number): Value => {
    if (!projection) {
      throw new PeftError("NO_PROJECTION", `No single linear layer makes the keys and values of "${site.name}".`);
    }
    return heads(g, projected(g, projection, x), sizes.keyHeads, width);
  };
  return {
    ...{ site, sizes, index, count },
    heads: (x, width) => heads(g, x, sizes.keyHeads, width),
    keys: (x) => project(block.key, x, sizes.keyWidth),
    values: (x) => project(block.value, x, sizes.valueWidth),
    hidden() {
      const name = (block.key ?? block.query)?.use.input;
      if (name !== undefined) return g.cast(inRows(g, g.value(name), batch), "float32");
      throw new PeftError("NO_PROJECTION", `No single linear layer makes the keys of "${site.name}".`);
    },
  };
}

/** [batch * tokens, hidden] as [batch, tokens, hidden], where that is what it is. */
function inRows(g: Builder, x: Value, batch: Dim): Value {
  const layout = x.shape.length === 2 ? rowLayout(g, x, batch) : null;
  return layout ? withBatchAxis(g, x, layout, batch) : x;
}

/** The frozen layer on another input, the features that count. */
function projected(g: Builder, { site, use, slice }: Projection, x: Value): Value {
  const { weight, bias } = frozenValues(g, site, use, use.output);
  const part = (value: Value): Value =>
    slice ? g.slice(value, [slice.start], [slice.start + slice.size], [0]) : value;
  const product = g.fusedMatMul(x, part(weight()), { transB: true });
  const c = bias();
  return c ? g.add(product, part(c)) : product;
}

/** [n, heads * width] or [batch, n, heads * width] as [1 or batch, heads, n, width]. */
function heads(g: Builder, x: Value, count: number, width: number): Value {
  const [batch, n] = x.shape.length === 3 ? x.shape : [1, x.shape[0]];
  return g.transpose(g.reshape(x, [batch ?? 1, n ?? 1, count, width]), [0, 2, 1, 3]);
}

/** Shared heads [.., keyHeads, n, width] repeated where the file multiplies repeated ones. */
function repeated(g: Builder, x: Value, { sizes, block }: Place): Value {
  const [from, to] = [sizes.keyHeads, block.productHeads];
  if (from === to) return x;
  const [batch = 1, , n = 1, width = 1] = x.shape;
  const grouped = g.expand(g.unsqueeze(x, [2]), [batch, from, to / from, n, width]);
  return g.reshape(grouped, [batch, to, n, width]);
}

const applied = (g: Builder, x: Value, steps: readonly ScoreStep[]): Value =>
  steps.reduce((value, { op, by }) => {
    if (op === "Tanh") return g.tanh(value);
    const factor = g.reshape(g.cast(g.value(by ?? ""), value.type), []);
    return op === "Mul" ? g.mul(value, factor) : g.div(value, factor);
  }, x);

/** Scores of the block's queries against keys [1 or batch, keyHeads, n, width]: [batch, heads, tokens, n]. */
function scoresOf(g: Builder, at: Place, scores: Value, keys: Value): Value {
  const { keyProduct, keySteps, scoreSteps } = at.block;
  const k = applied(g, repeated(g, keys, at), keySteps);
  const q = g.cast(g.value(keyProduct.inputs[0] ?? ""), "float32");
  const { alpha } = keyProduct.attributes;
  const options = { transB: true, alpha: alpha?.type === "float" ? alpha.value : 1 };
  const own = applied(g, g.fusedMatMul(q, k, options), scoreSteps);
  return g.cast(withLeading(g, own, scores), scores.type);
}

/** P'·V' in the shape of the block's own P·V. */
function weighed(g: Builder, at: Place, { probabilities, values }: Term): Value {
  const stacked = withLeading(g, probabilities, g.value(at.block.valueProduct.inputs[0] ?? ""));
  return g.matMul(g.cast(stacked, "float32"), repeated(g, values(), at));
}

/** The same numbers with all axes but the last as in another value: heads that share keys may be stacked as rows of one product. */
const withLeading = (g: Builder, x: Value, like: Value): Value =>
  x.shape[1] === like.shape[1] ? x : g.reshape(x, [...like.shape.slice(0, 3), x.shape[3] ?? 1]);
