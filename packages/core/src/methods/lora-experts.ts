import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { floorDivide } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";
import type { ExpertsInput } from "./forward-input.ts";
import { type Init, zeros } from "./init.ts";
import type { AdapterTensor, ByRole, ParameterSpec } from "./method.ts";

/** How many experts share the parameter. */
const expertsOf = ({ weightShape }: SiteShape): number => weightShape[0] ?? 1;

/**
 * A [experts * r, in], the A of one expert after the other, and B [out, r * experts], where the experts are neighbours: as peft's
 * `target_parameters` lays them out.
 */
export function expertParameters(site: SiteShape, r: number, init: Init): ByRole<ParameterSpec> {
  const rank = r * expertsOf(site);
  return {
    A: { shape: [rank, site.inFeatures], free: ["r", null], init },
    B: { shape: [site.outFeatures, rank], free: [null, "r"], init: zeros },
  };
}

interface Stacks {
  /** [experts, r, in] */
  readonly A: Value;
  /** [experts, out, r] for W·x, [experts, r, out] for x·W. */
  readonly B: Value;
}

/** Loops over experts read one parameter many times: its factors are laid out once per graph. */
const laidOut = new WeakMap<Builder, Map<string, Stacks>>();

function stacksOf(g: Builder, A: Value, B: Value, site: SiteShape, side: ExpertsInput["side"]): Stacks {
  const known = laidOut.get(g) ?? new Map<string, Stacks>();
  laidOut.set(g, known);
  const key = `${side} ${A.name} ${B.name}`;
  const found = known.get(key);
  if (found) return found;
  const count = expertsOf(site);
  const r = floorDivide(A.shape[0] ?? 0, count);
  const stacks: Stacks = {
    A: g.reshape(A, [count, r, site.inFeatures]),
    B: g.transpose(g.reshape(B, [site.outFeatures, r, count]), side === "left" ? [2, 0, 1] : [2, 1, 0]),
  };
  known.set(key, stacks);
  return stacks;
}

const einsum = (g: Builder, equation: string, a: Value, b: Value): Value =>
  g.op("Einsum", [a, b], { equation })[0] as Value;

/** One rank of zeros more: ONNX Runtime's Einsum ends the process where an axis is empty, as the rank of an absent adapter is. */
const withZero = (g: Builder, stack: Value): Value => g.op("Pad", [stack, g.ints([0, 0, 0, 0, 1, 0])])[0] as Value;

/**
 * LoRA of every expert: y + scale·(x·Aₑᵀ)·Bₑᵀ, e being the expert that the product with the frozen parameter is of; x [..., n, in], or
 * [..., in, n] where the parameter is the left factor. Costs r * (in + out) per token where a delta would cost in * out, and picks
 * factors where the frozen product picks matrices: r * (in + out) values per token and expert.
 */
export function expertsUpdate(
  g: Builder,
  { x, y, experts }: { readonly x: Value; readonly y: Value; readonly experts: ExpertsInput },
  A: Value,
  B: Value,
  site: SiteShape,
  scale: number,
): Value {
  const { side, select, equations } = experts;
  const stacks = stacksOf(g, A, B, site, side);
  if (equations) {
    const [first, second] = equations;
    const h = einsum(g, first, x, withZero(g, stacks.A));
    return g.add(y, einsum(g, second, scale === 1 ? h : g.mul(h, scale), withZero(g, stacks.B)));
  }
  const [a, b] = [select(stacks.A), select(stacks.B)];
  if (side === "left") return g.add(y, g.matMul(b, g.fusedMatMul(a, x, { alpha: scale })));
  return g.add(y, g.matMul(g.fusedMatMul(x, a, { transB: true, alpha: scale }), b));
}

/** scale·Bₑ·Aₑ of every expert, [experts, out, in] or, where it is stored so, [experts, in, out]. Costs experts * out * r * in. */
export function expertsDelta(A: AdapterTensor, B: AdapterTensor, site: SiteShape, scale: number): Float32Array {
  const [count, { inFeatures, outFeatures, fanInFanOut = false }] = [expertsOf(site), site];
  const total = A.dims[0] ?? 0; // experts * r
  const r = total / count;
  const delta = new Float32Array(count * outFeatures * inFeatures);
  const row = new Float64Array(inFeatures);
  for (let e = 0; e < count; e++) {
    const start = e * outFeatures * inFeatures;
    for (let o = 0; o < outFeatures; o++) {
      row.fill(0);
      for (let k = 0; k < r; k++) {
        const factor = scale * (B.data[o * total + k * count + e] as number);
        for (let i = 0, from = (e * r + k) * inFeatures; i < inFeatures; i++, from++) {
          row[i] = (row[i] as number) + factor * (A.data[from] as number);
        }
      }
      if (fanInFanOut) for (let i = 0; i < inFeatures; i++) delta[start + i * outFeatures + o] = row[i] as number;
      else delta.set(row, start + o * inFeatures);
    }
  }
  return delta;
}

/**
 * The same update with the two factors in each other's place: A [experts * r, out] and B [in, r * experts]. peft lays them out so where
 * a model stores [experts, in, out] and does not say so (Llama 4).
 */
export function swappedFactors(
  A: AdapterTensor,
  B: AdapterTensor,
  count: number,
): { A: AdapterTensor; B: AdapterTensor } {
  const [total = 0, width = 0] = A.dims;
  const [height = 0] = B.dims;
  const r = total / count;
  const [a, b] = [new Float32Array(total * height), new Float32Array(width * total)];
  for (let e = 0; e < count; e++) {
    for (let k = 0; k < r; k++) {
      const [inA, inB] = [e * r + k, k * count + e];
      for (let i = 0; i < height; i++) a[inA * height + i] = B.data[i * total + inB] as number;
      for (let o = 0; o < width; o++) b[o * total + inB] = A.data[inA * width + o] as number;
    }
  }
  return { A: { dims: [total, height], data: a }, B: { dims: [width, total], data: b } };
}
