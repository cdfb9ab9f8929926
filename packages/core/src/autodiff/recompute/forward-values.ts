import type { Builder } from "../../graph/builder.ts";
import { atomsOf, evaluateDim } from "../../onnx/dims.ts";
import { byteLength } from "../../onnx/element-type.ts";
import type { Node, ValueType } from "../../onnx/ir.ts";
import { readNames } from "../../onnx/structure.ts";
import { originOf } from "../origin.ts";

/** What is asked of a value that a forward node makes. */
export interface ForwardValue {
  readonly name: string;
  /** Place of its node among the forward nodes. */
  readonly made: number;
  /** Place of the last forward node that reads it; `made` where none does. */
  lastRead: number;
  /** With every symbol taken as 64: a weight for comparisons. */
  readonly bytes: number;
  /** Some node of the backward pass reads it. */
  saved: boolean;
  /** Never computed again: small, or its node may not run twice. */
  readonly kept: boolean;
}

const TYPICAL_SIZE = 64;
const SMALL_BYTES = 4096;
const random = new Set([
  "RandomNormal",
  "RandomNormalLike",
  "RandomUniform",
  "RandomUniformLike",
  "Bernoulli",
  "Multinomial",
]);

/** Bytes of a value with every symbol taken as {@link TYPICAL_SIZE}. */
export function typicalBytes({ type, shape }: ValueType): number {
  let count = 1;
  for (const dim of shape) {
    const sizes = new Map(atomsOf(dim).map((atom) => [atom, TYPICAL_SIZE]));
    count *= Math.max(0, evaluateDim(dim, sizes) ?? TYPICAL_SIZE);
  }
  return byteLength(type, count);
}

/** A draw of random numbers, a dropout that draws its own mask, or a node with graphs inside. */
const runsOnce = (node: Node): boolean =>
  random.has(node.op) ||
  (node.op === "Dropout" && (node.inputs[2] ?? "") !== "") ||
  Object.values(node.attributes).some(({ type }) => type === "graph" || type === "graphs");

/** Integers of rank 0 and 1 are shapes, whatever they depend on. */
const isSmall = (type: ValueType, bytes: number): boolean =>
  (type.type === "int64" && type.shape.length <= 1) ||
  (bytes <= SMALL_BYTES && type.shape.every((dim) => typeof dim === "number"));

/** The forward part of a differentiated graph (nodes that depend on no gradient, in order), and who reads what it makes. */
export function forwardValues(g: Builder): { nodes: Node[]; values: Map<string, ForwardValue> } {
  const behind = new Set<string>();
  const nodes: Node[] = [];
  const values = new Map<string, ForwardValue>();
  for (const node of g.nodes) {
    if (originOf(node) !== undefined || [...readNames(node)].some((name) => behind.has(name))) {
      for (const name of node.outputs) behind.add(name);
      for (const name of readNames(node)) {
        const value = values.get(name);
        if (value) value.saved = true;
      }
      continue;
    }
    const place = nodes.push(node) - 1;
    for (const name of readNames(node)) {
      const value = values.get(name);
      if (value) value.lastRead = place;
    }
    for (const name of node.outputs) {
      if (name === "") continue;
      const type = g.value(name);
      const bytes = typicalBytes(type);
      const kept = isSmall(type, bytes) || runsOnce(node);
      values.set(name, { name, made: place, lastRead: place, bytes, saved: false, kept });
    }
  }
  return { nodes, values };
}
