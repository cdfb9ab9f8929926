import { WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import { decodeAttribute } from "./decode-attribute.ts";
import { type DecodeContext, normalDomain } from "./decode-context.ts";
import { decodeGraph } from "./decode-graph.ts";
import { decodeNode } from "./decode-node.ts";
import { readEntry, readText, type TensorContext } from "./decode-tensor.ts";
import { checkOverlaps } from "./external-data.ts";
import { type FunctionDefinition, functionKey, inlineFunctions } from "./functions.ts";
import type { Attribute, FileRange, Graph, Model, Node } from "./ir.ts";
import { checkLimit, defaultLimits, type Limits } from "./limits.ts";
import { throwProblems } from "./problems.ts";
import { functionFields, modelFields, opsetFields, opsetRange } from "./schema.ts";
import { expectWire, type Field, fieldsOf, malformed, readInt, type Source } from "./source.ts";
import { checkStructure, subgraphsOf } from "./structure.ts";

function addOpset(context: DecodeContext, field: Field, where: string, opsets: Map<string, number>): void {
  expectWire(field, WireType.LengthDelimited, where);
  let domain = "";
  let version = 0;
  for (const inner of fieldsOf(context.source, field.start, field.end, where)) {
    if (inner.number === opsetFields.domain) domain = normalDomain(readText(context, inner, where));
    else if (inner.number === opsetFields.version) version = readInt(context.source, inner, where);
  }
  const before = opsets.get(domain);
  if (before !== undefined && before !== version) {
    throw new PeftError(
      "ONNX_INVALID",
      `domain "${domain}" is imported as version ${before} and ${version} at ${where}.`,
    );
  }
  opsets.set(domain, version);
}

interface DecodedFunction extends FunctionDefinition {
  readonly opsets: ReadonlyMap<string, number>;
}

function decodeFunction(context: DecodeContext, field: Field, path: string): DecodedFunction {
  expectWire(field, WireType.LengthDelimited, path);
  const f = functionFields;
  let name = "";
  let domain = "";
  let overload = "";
  const inputs: string[] = [];
  const outputs: string[] = [];
  const nodes: Node[] = [];
  const defaults = new Map<string, Attribute>();
  const opsets = new Map<string, number>();
  for (const inner of fieldsOf(context.source, field.start, field.end, path)) {
    if (inner.number === f.name) name = readText(context, inner, `${path}.name`);
    else if (inner.number === f.domain) domain = normalDomain(readText(context, inner, `${path}.domain`));
    else if (inner.number === f.overload) overload = readText(context, inner, `${path}.overload`);
    else if (inner.number === f.input) inputs.push(readText(context, inner, `${path}.input`));
    else if (inner.number === f.output) outputs.push(readText(context, inner, `${path}.output`));
    else if (inner.number === f.node) nodes.push(decodeNode(context, inner, `${path}.node[${nodes.length}]`, 1));
    else if (inner.number === f.opsetImport) addOpset(context, inner, `${path}.opset_import`, opsets);
    else if (inner.number === f.attributeDefault) {
      const found = decodeAttribute(context, inner, `${path}.attribute_proto[${defaults.size}]`, 1);
      if (found.reference === null) defaults.set(found.name, found.attribute);
    }
  }
  return { name, domain, overload, inputs, outputs, nodes, defaults, opsets };
}

/** Parts of a ModelProto as they are found. */
interface Found {
  irVersion: number;
  producer: { name: string; version: string };
  opsets: Map<string, number>;
  metadata: Map<string, string>;
  functions: DecodedFunction[];
  graph: Graph | null;
}

function collect(context: DecodeContext): Found {
  const { source } = context;
  const f = modelFields;
  const found: Found = {
    irVersion: 0,
    producer: { name: "", version: "" },
    opsets: new Map(),
    metadata: new Map(),
    functions: [],
    graph: null,
  };
  for (const field of fieldsOf(source, 0, source.length, "model")) {
    if (field.number === f.irVersion) found.irVersion = readInt(source, field, "ir_version");
    else if (field.number === f.producerName) found.producer.name = readText(context, field, "producer_name");
    else if (field.number === f.producerVersion) found.producer.version = readText(context, field, "producer_version");
    else if (field.number === f.opsetImport) addOpset(context, field, "opset_import", found.opsets);
    else if (field.number === f.metadata) {
      expectWire(field, WireType.LengthDelimited, "metadata_props");
      found.metadata.set(...readEntry(context, field, "metadata_props"));
    } else if (field.number === f.functions) {
      found.functions.push(decodeFunction(context, field, `functions[${found.functions.length}]`));
    } else if (field.number === f.trainingInfo) {
      throw new PeftError("ONNX_UNSUPPORTED", "training_info is not supported, received one in the model.", {
        hint: "Export the model for inference.",
      });
    } else if (field.number === f.graph) {
      expectWire(field, WireType.LengthDelimited, "graph");
      if (found.graph) throw malformed(field.start, "model", "a second graph");
      found.graph = decodeGraph(context, field.start, field.end, "graph", 1);
    }
  }
  return found;
}

function checkVersions({ irVersion, opsets, functions }: Found): void {
  if (irVersion < 1)
    throw new PeftError("ONNX_INVALID", `expected an ir_version of at least 1, received ${irVersion}.`);
  const version = opsets.get("");
  if (version === undefined) throw new PeftError("ONNX_INVALID", "the model imports no version of the ONNX operators.");
  if (version < opsetRange.oldest || version > opsetRange.newest) {
    throw new PeftError(
      "ONNX_UNSUPPORTED",
      `expected ONNX operators of version ${opsetRange.oldest} to ${opsetRange.newest}, received ${version}.`,
      { hint: "Convert the model with onnx.version_converter or export it again.", details: { version } },
    );
  }
  for (const { name, opsets: own } of functions) {
    for (const [domain, ownVersion] of own) {
      const modelVersion = opsets.get(domain);
      if (modelVersion === undefined) opsets.set(domain, ownVersion);
      else if (modelVersion !== ownVersion) {
        throw new PeftError(
          "ONNX_UNSUPPORTED",
          `function "${name}" uses version ${ownVersion} of domain "${domain}", the model ${modelVersion}.`,
        );
      }
    }
  }
}

function inlineAll(graph: Graph, { functions, opsets }: Found, context: DecodeContext): void {
  const table = new Map<string, FunctionDefinition>();
  for (const definition of functions) {
    const key = functionKey(definition.domain, definition.name, definition.overload);
    if (table.has(key)) throw new PeftError("ONNX_INVALID", `function "${definition.name}" is defined twice.`);
    table.set(key, definition);
  }
  inlineFunctions(graph, table, context);
  const domains = new Set<string>([""]);
  const addDomains = (inner: Graph, depth: number): void => {
    // Functions with graphs inside, called from graphs inside functions, nest deeper than any of them.
    checkLimit("nested graphs", depth, context.limits.maxNesting, `graph "${inner.name}"`);
    for (const node of inner.nodes) {
      domains.add(node.domain);
      for (const deeper of subgraphsOf(node)) addDomains(deeper, depth + 1);
    }
  };
  addDomains(graph, 1);
  for (const { domain } of functions) if (!domains.has(domain)) opsets.delete(domain);
}

export interface DecodeOptions {
  readonly limits?: Partial<Limits>;
  /** Place of external bytes. */
  readonly external: TensorContext["external"];
}

/**
 * A model from a source, checked and with functions inlined.
 * @throws PeftError with the codes of `decodeModel`
 */
export function decodeSource(source: Source, { limits: given, external }: DecodeOptions): Model {
  const limits: Limits = { ...defaultLimits, ...given };
  checkLimit("bytes", source.length, limits.maxBytes, "the model file");
  source.fieldsLeft = limits.maxFields;
  const ranges: FileRange[] = [];
  const context: DecodeContext = {
    source,
    limits,
    external(entries, expectedBytes, where) {
      const range = external(entries, expectedBytes, where);
      ranges.push(range);
      return range;
    },
    converted: 0,
    problems: [],
    symbols: new Map(),
    references: new Map(),
    overloads: new Map(),
    nodeCount: 0,
    subgraph: (start, end, path, depth) => decodeGraph(context, start, end, path, depth),
  };
  const found = collect(context);
  checkOverlaps(ranges);
  const { graph } = found;
  if (!graph)
    throw new PeftError("ONNX_INVALID", "expected a graph in the model, received none.", {
      hint: "Is this an ONNX file?",
    });
  checkVersions(found);
  throwProblems(context.problems, "the model");
  // Before IR version 4 every initializer had to be listed as an input too.
  if (found.irVersion < 4) graph.inputs = graph.inputs.filter(({ name }) => !graph.initializers.has(name));
  inlineAll(graph, found, context);
  checkStructure(graph, context.problems);
  throwProblems(context.problems, "the model");
  const { irVersion, opsets, producer, metadata } = found;
  return { irVersion, opsets, producer, metadata, graph };
}
