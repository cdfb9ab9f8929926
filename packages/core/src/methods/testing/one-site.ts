import type { SiteShape } from "../../adapters/site.ts";
import { differentiate } from "../../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../../graph/builder.ts";
import type { Value } from "../../onnx/ir.ts";
import { createRandom } from "../../random/random.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import { openBuilder } from "../../testing/run-graph.ts";
import type { ForwardInput } from "../forward-input.ts";
import type { AdapterTensor, ByRole, FrozenSite, Method, ParameterSpec } from "../method.ts";

/** One linear layer with a method at it. */
export interface OneSite<C extends object = object> {
  readonly method: Method<C>;
  readonly config: Readonly<Record<string, unknown>>;
  /** [out, in] */
  readonly weight: AdapterTensor;
  readonly bias?: Float32Array | null;
  readonly name?: string;
  /** Names of other modules of this shape that are adapted too. */
  readonly others?: readonly string[];
}

export const parsedConfig = <C extends object>({ method, config }: Pick<OneSite<C>, "method" | "config">): C =>
  (method.config as unknown as { parse(value: unknown): C }).parse(config);

export function siteOf({ weight, bias, name = "layer.0.dense" }: Omit<OneSite, "method" | "config">): SiteShape {
  const [outFeatures = 0, inFeatures = 0] = weight.dims;
  return { name, kind: "linear", inFeatures, outFeatures, weightShape: weight.dims, hasBias: Boolean(bias) };
}

export const frozenOf = ({ weight, bias }: Omit<OneSite, "method" | "config">): FrozenSite => ({
  weight: () => weight.data.slice(),
  bias: () => bias?.slice() ?? new Float32Array(weight.dims[0] ?? 0),
});

/** All specs at the site, shared ones included. */
export function specsOf<C extends object>(at: OneSite<C>): ByRole<ParameterSpec> {
  const [site, config] = [siteOf(at), parsedConfig(at)];
  const all = [site, ...(at.others ?? []).map((name) => ({ ...site, name }))];
  return { ...at.method.shared?.(all, config), ...at.method.parameters(site, config, all) };
}

/** Start values of a new adapter at the site. */
export function startOf<C extends object>(at: OneSite<C>, seed: number | string = 1): Record<string, AdapterTensor> {
  const [site, config, frozen] = [siteOf(at), parsedConfig(at), frozenOf(at)];
  const started = at.method.start?.({ site, config, frozen, random: createRandom(seed) }) ?? {};
  return Object.fromEntries(
    Object.entries(specsOf(at)).map(([role, { shape, init }]) => {
      const random = createRandom(`${seed}:${role}`);
      return [role, { dims: shape, data: started[role] ?? init({ shape, random, base: () => frozen.weight() }) }];
    }),
  );
}

/** Adds the layer with the method's forward to a graph. */
export function forwardAt<C extends object>(
  g: Builder,
  at: OneSite<C>,
  inputs: { readonly x: Value; readonly weight: Value; readonly bias: Value | null },
  values: ByRole<Value>,
): Value {
  const { weight, bias } = inputs;
  const base = (x: Value): Value => {
    const product = g.fusedMatMul(x, weight, { transB: true });
    return bias ? g.add(product, bias) : product;
  };
  const input: ForwardInput = {
    x: inputs.x,
    y: base(inputs.x),
    site: siteOf(at),
    rows: {},
    weight: () => weight,
    bias: () => bias,
    base,
    meanOverTokens: (value) => g.reduceMean(value, [-2]),
  };
  return at.method.forward(g, input, values, parsedConfig(at));
}

export interface OneSiteResult {
  readonly y: Float32Array;
  readonly dx: Float32Array;
  readonly gradients: ByRole<Float32Array>;
}

/** Output, and gradients of the input and of everything that is trained, for an output gradient. */
export async function runOneSite<C extends object>(
  at: OneSite<C>,
  tensors: ByRole<AdapterTensor>,
  x: AdapterTensor,
  dy: Float32Array,
): Promise<OneSiteResult> {
  const g = createBuilder();
  const feeds: Record<string, RuntimeTensor> = {};
  const input = (name: string, { dims, data }: AdapterTensor): Value => {
    feeds[name] = { type: "float32", dims, data };
    return g.input(name, "float32", dims);
  };
  const specs = specsOf(at);
  const values = Object.fromEntries(Object.entries(tensors).map(([role, tensor]) => [role, input(role, tensor)]));
  const given = input("x", x);
  const bias = at.bias ? input("c", { dims: [at.bias.length], data: at.bias }) : null;
  const y = forwardAt(g, at, { x: given, weight: input("W", at.weight), bias }, values);
  g.output(y, "y");
  const trained = Object.keys(tensors).filter((role) => specs[role] && specs[role].trainable !== false);
  const seed = input("dy", { dims: [...x.dims.slice(0, -1), at.weight.dims[0] ?? 0], data: dy });
  const wanted = [given, ...trained.map((role) => values[role] as Value)];
  differentiate(g, [{ value: y, gradient: seed }], wanted, { unreached: "zeros" }).forEach((d, i) => {
    g.output(d, i === 0 ? "dx" : `d:${trained[i - 1]}`);
  });
  const session = await openBuilder(g);
  const outputs = await session.run(
    Object.fromEntries(session.inputNames.map((name) => [name, feeds[name] as RuntimeTensor])),
  );
  await session.close();
  const of = (name: string): Float32Array => outputs[name]?.data as Float32Array;
  return { y: of("y"), dx: of("dx"), gradients: Object.fromEntries(trained.map((role) => [role, of(`d:${role}`)])) };
}

/**
 * What of the forward pass the backward pass reads, as shapes: the activations and products that stay in memory in between.
 * "x" is the input itself.
 */
export function keptByBackward<C extends object>(at: OneSite<C>, rows: number): { name: string; shape: number[] }[] {
  const g = createBuilder();
  const [outFeatures = 0, inFeatures = 0] = at.weight.dims;
  const x = g.input("x", "float32", [rows, inFeatures]);
  const weight = g.input("W", "float32", at.weight.dims);
  const specs = specsOf(at);
  const values = Object.fromEntries(
    Object.entries(specs).map(([role, { shape }]) => [role, g.input(role, "float32", shape)]),
  );
  const y = forwardAt(g, at, { x, weight, bias: null }, values);
  const forward = new Set([...g.nodes.flatMap((node) => node.outputs), "x"]);
  const before = g.nodes.length;
  const trained = Object.keys(specs).filter((role) => specs[role]?.trainable !== false);
  const dY = g.input("dY", "float32", [rows, outFeatures]);
  differentiate(g, [{ value: y, gradient: dY }], [x, ...trained.map((role) => values[role] as Value)]);
  const read = new Set(g.nodes.slice(before).flatMap((node) => node.inputs));
  return [...read]
    .filter((name) => forward.has(name) && name !== y.name)
    .map((name) => ({ name, shape: g.value(name).shape.map(Number) }));
}
