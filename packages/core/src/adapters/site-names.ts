import type { Node } from "../onnx/ir.ts";
import type { GraphIndex } from "./graph-index.ts";
import { operandNames } from "./graph-index.ts";
import type { Operand, Site } from "./site.ts";

export interface SiteName {
  readonly name: string;
  readonly source: Site["nameSource"];
  /** What the name of the parameter has before the path where it was traced: "model." */
  readonly outer?: string;
}

/**
 * Module path in a node's name as PyTorch's TorchScript exporter writes it ("/encoder/layer.0/attention/self/query/MatMul"
 * is encoder.layer.0.attention.self.query), or null. Optimisers append to the last part ("MatMul/MatMulAddFusion").
 */
const pathInNodeName = (node: Node): string | null => pathInName(node.name, node.op);

/** The same for the name of a value ("/encoder/layer.0/attention/self/Reshape_3_output_0"), which optimisers leave as it was. */
export function pathInName(name: string, op = ""): string | null {
  if (!name.startsWith("/")) return null;
  const parts = name.slice(1).split("/");
  const operator = parts.findIndex((part) => /^[A-Z]\w*$/.test(part) && isOperatorName(part, op));
  return operator < 0 ? null : joinScopes(parts.slice(0, operator));
}

/**
 * Scopes as one path. The child of a called container (Sequential) repeats the container's name: the scopes "layers",
 * "layers.0" are the module layers.0, while the children of a ModuleList, which is never called, come as "layers.0" alone.
 */
const joinScopes = (parts: readonly string[]): string =>
  parts.filter((part, i) => !(parts[i + 1] ?? "").startsWith(`${part}.`)).join(".");

/** Module classes may begin with a capital ("LayerNorm"), so a part must be an operator's name to end the path. */
const isOperatorName = (part: string, op: string): boolean => {
  const base = part.replace(operatorSuffixes, "");
  return base === op || operatorNames.has(base);
};

/** What exporters ("MatMul_1") and quantisers ("MatMul_Q4", "MatMul_quant", "MatMul_output_0_quantized_cast") append. */
const operatorSuffixes =
  /(?:_(?:\d+|output|quant|quantized|cast|scales|mul|scale|MatMul|Add|DQ|Q\d|Bnb4|matmul|Quant))+$/;

const operatorNames = new Set([
  ...["MatMul", "Gemm", "FusedMatMul", "Add", "Mul", "Gather", "Conv", "LayerNormalization", "RMSNormalization"],
  ...[
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipLayerNorm",
    "Identity",
    "Cast",
    "Transpose",
    "Reshape",
  ],
]);

/**
 * Module path in the metadata of PyTorch's dynamo exporter: a list of nested scopes, from the empty root to the traced
 * operation ("['', 'bert', 'bert.pooler', 'bert.pooler.dense', 'linear_3']"), or null.
 */
function pathInMetadata(node: Node): string | null {
  const text = node.metadata["pkg.torch.onnx.name_scopes"];
  if (text === undefined) return null;
  const scopes = [...text.matchAll(/'([^']*)'|"([^"]*)"/g)].map((match) => match[1] ?? match[2] ?? "");
  if (scopes.length < 2 || isFoldedNorm(node, scopes.at(-1) ?? "")) return null;
  return scopes.at(-2) ?? null;
}

/** The exporter's optimiser writes a BatchNorm into the convolution before it, and gives the result the norm's scope. */
const isFoldedNorm = ({ op }: Node, traced: string): boolean =>
  op !== "BatchNormalization" && /batch_norm/.test(traced);

/** Module path of a parameter's name: what stands before ".weight" or ".bias"; null for invented names. */
function moduleOf(parameter: string): string | null {
  const match =
    /^(.+?)\.(?:MatMul\.|merged_)?(?:q?weight|bias|gamma|beta)(?:_[Tt]ransposed|_fp16|_\d+|_quantized|_DQ|_Q\d\w*|_Bnb4|_quant)*$/.exec(
      parameter,
    );
  const path = match?.[1] ?? null;
  return path === null || path.includes("::") || path.includes("/") ? null : path;
}

const isAncestor = (path: string, of: string): boolean => path === "" || path === of || of.startsWith(`${path}.`);

/**
 * Name of the module that a weight belongs to. The path where the node was traced is trusted before the name of the weight:
 * exporters give equal weights (all norms of a fresh model) one name. Only where a weight is read outside its own module
 * (a functional call in a parent) its own name says more.
 */
export function siteNameOf(index: GraphIndex, nodes: readonly Node[], weight: Operand, bias: Operand | null): SiteName {
  const named = (operand: Operand | null): string | null => {
    for (const name of operand ? operandNames(index, operand) : []) {
      const path = moduleOf(name);
      if (path !== null) return path;
    }
    return null;
  };
  const fromParameter = named(weight) ?? named(bias);
  for (const node of nodes) {
    const scope = pathInMetadata(node) ?? pathInNodeName(node);
    if (scope === null) continue;
    if (fromParameter !== null && isAncestor(scope, fromParameter)) break;
    if (scope === "") continue;
    const outer = fromParameter?.endsWith(`.${scope}`) ? { outer: fromParameter.slice(0, -scope.length) } : {};
    return { name: scope, source: "scope", ...outer };
  }
  if (fromParameter !== null) return { name: fromParameter, source: "parameter" };
  return { name: weight.initializer, source: "weight" };
}

const firstPart = (name: string): string => name.split(".")[0] ?? "";

/**
 * Names with the modules around them that were never called, and so are in no scope: OPTForCausalLM calls `model.decoder`, whose nodes
 * are traced as "decoder". Names of parameters show what is missing. One may be that of another module's equal weight, so at
 * least two must say the same and none another thing.
 */
export function withOuterModules(names: readonly SiteName[]): SiteName[] {
  const said = new Map<string, string[]>();
  for (const { name, outer } of names) {
    if (outer !== undefined) said.set(firstPart(name), [...(said.get(firstPart(name)) ?? []), outer]);
  }
  return names.map((entry) => {
    const outers = entry.source === "scope" ? (said.get(firstPart(entry.name)) ?? []) : [];
    const [outer] = outers;
    if (outer === undefined || outers.length < 2 || outers.some((other) => other !== outer)) return entry;
    return { ...entry, name: outer + entry.name };
  });
}
