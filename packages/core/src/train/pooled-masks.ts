import { type Draw, dropoutMaskName, keptPoolName, maskRangeNames, poolName } from "../graph/dropout.ts";
import { elementTypes } from "../onnx/element-type.ts";
import type { Attribute, Node, TensorData, Value } from "../onnx/ir.ts";
import { decodeModel } from "../onnx/read.ts";
import { readNames } from "../onnx/structure.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import type { Device } from "../runtime/device.ts";
import { keptScale } from "./dropout-feeds.ts";
import { packGraph } from "./graph-file.ts";
import type { TrainingProgram } from "./program.ts";

/**
 * The same training program with masks cut from their pools inside the graph: what is fed is the pool, once, and where each mask
 * begins and ends in it. For devices with memory of their own, to which every mask would be copied: at BERT-base's sizes (8 x 128
 * tokens) 150 MB a step in the place of 13. On the CPU masks are views and cost nothing.
 *
 * For "cuda" a pool of dropout holds bytes, a quarter of that, and they are all that is kept for the backward pass: X * mask becomes
 * Where(kept, X * scale, 0), equal but for the signs of zeros. WebGPU has no kernels for bytes.
 */
export function withPooledMasks(program: TrainingProgram, device: Device = "cuda"): TrainingProgram {
  const { bytes, externalDataFolder: folder } = program.graph;
  const model = decodeModel(bytes, folder === undefined ? {} : { folder });
  const { graph } = model;
  const draws = new Map<string, Draw>(program.dropout.map(({ draw }, site) => [dropoutMaskName(site), draw]));
  const masks = graph.inputs.flatMap(({ name }) => {
    const draw = draws.get(name);
    return draw === undefined ? [] : [{ name, draw }];
  });
  const isBytes = (draw: Draw): draw is number => device === "cuda" && typeof draw === "number";
  const pools = new Set(masks.map(({ draw }) => draw));
  const inputs: Value[] = [
    ...graph.inputs.filter(({ name }) => !draws.has(name)),
    ...Array.from(pools, (draw): Value => {
      const name = isBytes(draw) ? keptPoolName(draw) : poolName(draw);
      return { name, type: isBytes(draw) ? "bool" : "float32", shape: [`${name}.size`] };
    }),
    ...masks.flatMap(({ name }) =>
      maskRangeNames(name).map((end): Value => ({ name: end, type: "int64", shape: [1] })),
    ),
  ];
  const cuts: Node[] = [];
  const initializers = new Map(graph.initializers);
  const values = new Map(graph.values);
  const replaced = new Map<Node, Node[]>();
  const uses = usesOf(graph.nodes);
  for (const { name, draw } of masks) {
    if (!isBytes(draw)) {
      cuts.push(cut(poolName(draw), name, name));
      continue;
    }
    const scale = constant(initializers, `dropout.scale.${draw}`, keptScale(draw));
    const zero = constant(initializers, "dropout.zero", 0);
    const factors = factorsOf(uses, name);
    if (factors) {
      cuts.push(cut(keptPoolName(draw), name, name));
      values.delete(name);
      for (const { factor, products } of factors) {
        values.delete(factor);
        for (const product of products) replaced.set(product, keeping(product, factor, scale, zero));
      }
      continue;
    }
    const to: Attribute = { type: "int", value: elementTypes.float32.code };
    cuts.push(
      cut(keptPoolName(draw), name, `${name}.kept`),
      node(`${name}/Cast`, "Cast", [`${name}.kept`], `${name}.ones`, { to }),
      node(`${name}/Mul`, "Mul", [`${name}.ones`, scale], name),
    );
  }
  const nodes = [...cuts, ...graph.nodes.flatMap((one) => replaced.get(one) ?? [one])];
  return { ...program, graph: packGraph({ ...model, graph: { ...graph, inputs, nodes, initializers, values } }) };
}

const node = (
  name: string,
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, Attribute> = {},
): Node => ({ name, op, domain: "", inputs, outputs: [output], attributes, metadata: {} });

const cut = (pool: string, mask: string, output: string): Node =>
  node(`${mask}/Slice`, "Slice", [pool, ...maskRangeNames(mask)], output);

function constant(initializers: Map<string, TensorData>, name: string, value: number): string {
  initializers.set(name, tensorFrom("float32", [], [value]));
  return name;
}

/** X * mask with a mask of booleans. */
function keeping(product: Node, factor: string, scale: string, zero: string): Node[] {
  const [y = ""] = product.outputs;
  const x = product.inputs[product.inputs[0] === factor ? 1 : 0] ?? "";
  return [
    { ...product, name: `${product.name}/scaled`, inputs: [x, scale], outputs: [`${y}.scaled`] },
    { ...product, op: "Where", inputs: [factor, `${y}.scaled`, zero] },
  ];
}

/** What reads each value. */
function usesOf(nodes: readonly Node[]): ReadonlyMap<string, readonly Node[]> {
  const uses = new Map<string, Node[]>();
  for (const one of nodes) {
    for (const name of new Set(readNames(one))) {
      const list = uses.get(name);
      if (list) list.push(one);
      else uses.set(name, [one]);
    }
  }
  return uses;
}

/** A mask in the shape of what it is multiplied by, and the products; null where it is used in another way. */
function factorsOf(uses: ReadonlyMap<string, readonly Node[]>, mask: string) {
  const factors: { readonly factor: string; readonly products: readonly Node[] }[] = [];
  for (const shaped of uses.get(mask) ?? []) {
    const [factor = ""] = shaped.outputs;
    const products = uses.get(factor) ?? [];
    const isPlain = ({ op, domain, inputs: [a, b] }: Node): boolean => op === "Mul" && domain === "" && a !== b;
    if (shaped.op !== "Reshape" || shaped.inputs[0] !== mask || !products.every(isPlain)) return null;
    factors.push({ factor, products });
  }
  return factors;
}
