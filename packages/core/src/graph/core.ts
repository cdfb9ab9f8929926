import { PeftError } from "../errors.ts";
import { atomsOf, isStatic, sizeOf } from "../onnx/dims.ts";
import type { ElementType } from "../onnx/element-type.ts";
import type { InferContext } from "../onnx/infer/context.ts";
import { knownInts } from "../onnx/infer/known-ints.ts";
import { inferenceOf, operatorKey } from "../onnx/infer/table.ts";
import type { Attribute, Dim, Graph, Node, Shape, TensorData, Value, ValueType } from "../onnx/ir.ts";
import { defaultLimits } from "../onnx/limits.ts";
import { sortNodes } from "../onnx/structure.ts";
import { elementCount, readTensorBytes, tensorFrom, toNumbers } from "../onnx/tensor.ts";
import type { AttributeInput } from "./attributes.ts";
import { toAttribute } from "./attributes.ts";
import { type PruneOptions, pruneDeadNodes } from "./prune.ts";

export interface NodeOptions {
  domain?: string;
  /** Names of the outputs; generated when left out. An empty name is an output that is not wanted. */
  outputs?: readonly string[];
  /** How many outputs to make when `outputs` is left out; default 1. */
  count?: number;
  name?: string;
  metadata?: Record<string, string>;
}

/** Where a symbol's size can be read at run time: axis `axis` of `value`. */
interface SymbolSource {
  readonly value: Value;
  readonly axis: number;
}

const SMALL = 64;
const smallIntegers = new Set<ElementType>(["int64", "int32", "bool"]);

/** Integers of a shape vector. "To the end" of a Slice is written as the largest int64: any number above all sizes does. */
function smallInts(tensor: TensorData): number[] {
  if (tensor.type !== "int64") return toNumbers(tensor);
  const bytes = readTensorBytes(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { MAX_SAFE_INTEGER: most, MIN_SAFE_INTEGER: least } = Number;
  return Array.from({ length: elementCount(tensor.dims) }, (_, i) =>
    Math.min(most, Math.max(least, Number(view.getBigInt64(8 * i, true)))),
  );
}

/** @throws PeftError SHAPE_INFERENCE for a result with more axes than a file may declare. */
function checkShape(node: Node, shape: Shape): void {
  const { maxRank } = defaultLimits;
  if (shape.length <= maxRank) return;
  throw new PeftError(
    "SHAPE_INFERENCE",
    `${node.op} "${node.name}" makes ${shape.length} axes, more than ${maxRank} are not supported.`,
  );
}

/**
 * A graph under construction: adds nodes, infers types and shapes at once, follows small integer vectors (shapes) and
 * folds them into constants where they are known. It only grows; {@link GraphCore.finish} drops what nobody reads.
 */
export class GraphCore {
  readonly opset: number;
  /** The graph around a sub-graph: its values, constants and sizes can be read inside. */
  readonly outer: GraphCore | null;
  readonly nodes: Node[] = [];
  readonly initializers = new Map<string, TensorData>();
  readonly inputs: Value[] = [];
  /** 8-bit forms of transposed frozen weights for gradients of inputs, by the name of the weight in the forward pass. */
  readonly backwardWeights = new Map<string, { readonly weight: Value; readonly scales: Value }>();
  private readonly outputNames: { name: string; value: Value }[] = [];
  private readonly values = new Map<string, Value>();
  private readonly producers = new Map<string, Node>();
  private readonly nodeNames = new Set<string>();
  private readonly intContents = new Map<string, readonly Dim[]>();
  private readonly symbols = new Map<string, SymbolSource>();
  private readonly constants = new Map<string, Value>();
  /** Shared by a graph and its sub-graphs: a generated name or symbol means one thing in all of them. */
  private readonly shared: { counter: number; readonly names: Set<string> };
  private prefix = "";

  constructor(opset = 21, outer: GraphCore | null = null) {
    this.opset = opset;
    this.outer = outer;
    this.shared = outer?.shared ?? { counter: 0, names: new Set() };
    this.prefix = outer?.prefix ?? "";
  }

  /** Runs `build` with a name prefix on every node it adds, so that profiles and errors can be read. */
  scoped<T>(prefix: string, build: () => T): T {
    const outer = this.prefix;
    this.prefix = `${outer}${prefix}/`;
    try {
      return build();
    } finally {
      this.prefix = outer;
    }
  }

  /** Keeps generated names away from names of values that are added later. */
  reserve(names: readonly string[]): void {
    for (const name of names) this.shared.names.add(name);
  }

  /** A name that no value of this graph, of the graphs around it or of their sub-graphs has. */
  freshName(base: string): string {
    for (;;) {
      const name = `${this.prefix}${base}_${this.shared.counter++}`;
      if (!this.shared.names.has(name)) return name;
    }
  }

  /** A symbol for a size about which nothing is known. */
  freshSymbol(): string {
    return `?${this.shared.counter++}`;
  }

  private register(name: string, type: ValueType): Value {
    if (this.has(name)) throw new PeftError("DUPLICATE_VALUE", `The graph already has a value named "${name}".`);
    const value: Value = { name, type: type.type, shape: type.shape };
    this.values.set(name, value);
    this.shared.names.add(name);
    return value;
  }

  private learnSymbols(value: Value, override: boolean): void {
    value.shape.forEach((dim, axis) => {
      if (typeof dim === "string" && atomsOf(dim)[0] === dim && (override || !this.symbolSource(dim))) {
        this.symbols.set(dim, { value, axis });
      }
    });
  }

  /** A graph input: fed on every run, never defaulted. */
  input(name: string, type: ElementType, shape: Shape): Value {
    const value = this.register(name, { type, shape });
    this.inputs.push(value);
    for (const [axis, dim] of shape.entries()) {
      if (typeof dim === "string" && atomsOf(dim)[0] === dim && !this.isFedSymbol(dim))
        this.symbols.set(dim, { value, axis });
    }
    return value;
  }

  private isFedSymbol(dim: string): boolean {
    const source = this.symbols.get(dim);
    return source !== undefined && this.inputs.includes(source.value);
  }

  /** Names `value` as an output of the graph. */
  output(value: Value, name = value.name): void {
    this.outputNames.push({ name, value });
  }

  get outputs(): readonly Value[] {
    return this.outputNames.map(({ value }) => value);
  }

  initializer(name: string, tensor: TensorData): Value {
    const value = this.register(name, { type: tensor.type, shape: tensor.dims });
    this.initializers.set(name, tensor);
    if (smallIntegers.has(tensor.type) && tensor.dims.length <= 1 && elementCount(tensor.dims) <= SMALL) {
      this.intContents.set(name, smallInts(tensor));
    }
    return value;
  }

  /** A small constant; equal ones are made once. */
  constant(type: ElementType, data: readonly number[] | number, dims?: readonly number[]): Value {
    const list = typeof data === "number" ? [data] : data;
    const shape = dims ?? (typeof data === "number" ? [] : [data.length]);
    const key = `${type}:${shape.join(",")}:${list.map((x) => (Object.is(x, -0) ? "-0" : String(x))).join(",")}`;
    const known = this.constants.get(key);
    if (known) return known;
    const outer = this.prefix;
    this.prefix = "";
    const value = this.initializer(this.freshName("const"), tensorFrom(type, shape, list));
    this.prefix = outer;
    this.constants.set(key, value);
    return value;
  }

  /** The value of that name. @throws PeftError UNKNOWN_VALUE */
  value(name: string): Value {
    const value = this.values.get(name) ?? (this.outer?.has(name) ? this.outer.value(name) : undefined);
    if (!value) throw new PeftError("UNKNOWN_VALUE", `The graph has no value named "${name}".`);
    return value;
  }

  has(name: string): boolean {
    return this.values.has(name) || this.outer?.has(name) === true;
  }

  /** The constant of that name; null for values that are computed or fed. */
  tensorOf(name: string): TensorData | null {
    if (this.values.has(name)) return this.initializers.get(name) ?? null;
    return this.outer?.tensorOf(name) ?? null;
  }

  producerOf(value: Value): Node | undefined {
    return this.producers.get(value.name) ?? this.outer?.producerOf(value);
  }

  /** Contents of a small integer value, as far as they are known from shapes and constants. */
  intsOf(value: Value): readonly Dim[] | null {
    if (this.values.has(value.name)) return this.intContents.get(value.name) ?? null;
    return this.outer?.intsOf(value) ?? null;
  }

  /** Adds a node and returns its outputs. */
  op(
    op: string,
    inputs: readonly (Value | null)[],
    attributes: Record<string, AttributeInput> = {},
    options: NodeOptions = {},
  ): Value[] {
    const domain = options.domain ?? "";
    const outputs =
      options.outputs ?? Array.from({ length: options.count ?? 1 }, () => this.freshName(op.toLowerCase()));
    const converted: Record<string, Attribute> = {};
    for (const [key, value] of Object.entries(attributes)) converted[key] = toAttribute(value);
    const names = inputs.map((v) => v?.name ?? "");
    while (names.at(-1) === "") names.pop();
    const node: Node = {
      name: options.name ?? `${this.prefix}${op}_${this.shared.counter++}`,
      op,
      domain,
      inputs: names,
      outputs: [...outputs],
      attributes: converted,
      metadata: options.metadata ?? {},
    };
    return this.addNode(node);
  }

  /** Adds a node as it is (its inputs must exist) and returns its outputs; "" outputs are skipped. */
  addNode(node: Node): Value[] {
    const context = this.contextOf(node);
    const infer = inferenceOf(node.op, node.domain);
    if (!infer) {
      throw new PeftError(
        "UNSUPPORTED_OPERATOR",
        `Node "${node.name}" uses ${operatorKey(node.op, node.domain)}, which this engine does not know.`,
        {
          hint: "See docs/operators.md for what is supported.",
          details: { op: node.op, domain: node.domain, node: node.name },
        },
      );
    }
    const types = infer(context);
    const results: Value[] = [];
    node.outputs.forEach((name, i) => {
      if (name === "") return;
      const type = types[i];
      if (!type) throw new PeftError("SHAPE_INFERENCE", `${node.op} "${node.name}" has no output ${i}.`);
      checkShape(node, type.shape);
      results.push(this.register(name, type));
    });
    const [first] = results;
    const ints =
      first && smallIntegers.has(first.type) ? knownInts(context, first.shape.length, sizeOf(first.shape)) : null;
    if (first && ints) {
      this.intContents.set(first.name, ints);
      if (isStatic(ints) && results.length === 1) {
        this.initializers.set(first.name, tensorFrom(first.type, first.shape.length === 0 ? [] : [ints.length], ints));
        return results;
      }
    }
    node.name = this.ownNodeName(node.name);
    this.nodes.push(node);
    for (const value of results) {
      this.producers.set(value.name, node);
      this.learnSymbols(value, false);
    }
    return results;
  }

  /** ONNX Runtime refuses a graph with two nodes of one name. */
  private ownNodeName(name: string): string {
    const own = name !== "" && this.nodeNames.has(name) ? `${name}#${this.shared.counter++}` : name;
    this.nodeNames.add(own);
    return own;
  }

  /**
   * Puts what `build` adds in the place of a node. Its results, of the same types and shapes, take over the names of the
   * node's outputs, so that what reads them need not know.
   */
  replaceNode(node: Node, build: () => readonly Value[]): void {
    const tail = this.nodes.splice(this.nodes.indexOf(node));
    const results = build();
    node.outputs.forEach((name, i) => {
      const result = results[i];
      if (name === "" || !result) return;
      const identity: Node = {
        ...{ name: `${node.name}/${name}`, op: "Identity", domain: "", inputs: [result.name], outputs: [name] },
        ...{ attributes: {}, metadata: {} },
      };
      this.nodes.push(identity);
      this.producers.set(name, identity);
    });
    this.nodes.push(...tail.slice(1));
  }

  /** Makes output `index` of an existing node available, e.g. the statistics of a LayerNormalization. */
  extraOutput(node: Node, index: number): Value {
    const existing = node.outputs[index];
    if (existing) return this.value(existing);
    const type = inferenceOf(node.op, node.domain)?.(this.contextOf(node))[index];
    if (!type) throw new PeftError("SHAPE_INFERENCE", `${node.op} "${node.name}" has no output ${index}.`);
    const value = this.register(this.freshName(`${node.op.toLowerCase()}_${index}`), type);
    while (node.outputs.length < index) node.outputs.push("");
    node.outputs[index] = value.name;
    this.producers.set(value.name, node);
    return value;
  }

  /** Adds an output to a node whose attributes were changed so that it has one more. */
  addOutput(node: Node, type: ValueType): Value {
    const value = this.register(this.freshName(node.op.toLowerCase()), type);
    node.outputs.push(value.name);
    this.producers.set(value.name, node);
    return value;
  }

  /**
   * Puts what `build` adds in the place of nodes; each node's outputs keep their names and show the values that `build`
   * returns for it. The order of nodes is made good afterwards.
   */
  replaceNodes(nodes: readonly Node[], build: (node: Node) => readonly (Value | null)[]): void {
    for (const node of nodes) {
      this.nodes.splice(this.nodes.indexOf(node), 1);
      const results = this.scoped(node.name || node.op, () => build(node));
      node.outputs.forEach((name, i) => {
        if (name === "") return;
        const result = results[i];
        if (!result) throw new PeftError("MISSING_OUTPUT", `${node.op} "${node.name}" is given no output ${i}.`);
        const shown: Node = {
          name: `${node.name}/output${i}`,
          op: "Identity",
          domain: "",
          inputs: [result.name],
          outputs: [name],
          attributes: {},
          metadata: node.metadata,
        };
        this.nodes.push(shown);
        this.producers.set(name, shown);
      });
    }
    const sorted = sortNodes(this.nodes);
    if ("cycle" in sorted) {
      throw new PeftError("GRAPH_CYCLE", `Replacing ${nodes.map((n) => n.name)} made a cycle of nodes.`);
    }
    this.nodes.splice(0, this.nodes.length, ...sorted.order);
  }

  /** Where the size behind an atom of a symbolic dimension can be read at run time. */
  symbolSource(atom: string): SymbolSource | undefined {
    return this.symbols.get(atom) ?? this.outer?.symbolSource(atom);
  }

  private contextOf(node: Node): InferContext {
    const inputs = node.inputs.map((name) => (name === "" ? null : this.value(name)));
    return {
      node,
      opset: this.opset,
      inputs,
      ints: (i) => (inputs[i] ? this.intsOf(inputs[i]) : null),
      tensor: (i) => this.tensorOf(node.inputs[i] ?? ""),
      fresh: () => this.freshSymbol(),
    };
  }

  /**
   * The finished graph: only what the outputs need, StopGradient removed. Inputs stay as declared, also unused ones,
   * unless `dropUnusedInputs`; Dropout outside training is removed unless `keepDropout`.
   */
  finish(options: PruneOptions & { name?: string } = {}): Graph {
    const values = new Map<string, ValueType>();
    for (const [name, { type, shape }] of this.values) values.set(name, { type, shape });
    return pruneDeadNodes(
      {
        name: options.name ?? "graph",
        nodes: this.nodes.map((n) => ({ ...n, inputs: [...n.inputs], outputs: [...n.outputs] })),
        inputs: [...this.inputs],
        outputs: this.outputNames.map(({ name, value }) => ({ name, type: value.type, shape: value.shape })),
        initializers: new Map(this.initializers),
        values,
      },
      new Map(this.outputNames.map(({ name, value }) => [name, value.name])),
      options,
    );
  }
}
