import { z } from "zod";
import { columnRange, multiply, rowRange, scaleRows } from "../linalg/matrix.ts";
import { torchRandom } from "../random/torch-random.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { constant, zeros } from "./init.ts";
import { type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const veraConfig = z.strictObject({
  /** Rank of the shared projections; it costs r + out parameters per site. */
  r: z.int().positive().max(65_536).default(256),
  /** Seed of the projections, as `torch.manual_seed` takes it. */
  projectionPrngKey: z.int().min(0).default(0),
  /** Write the projections into the file. Without them a reader makes them again from the seed. */
  saveProjection: z.boolean().default(true),
  dropout: z.number().min(0).lt(1).default(0),
  /** Start of d. */
  dInitial: z.number().default(0.1),
});
export type VeraConfig = z.output<typeof veraConfig>;

/** Largest input and output over the sites: the size of the shared projections. */
export const largestSizes = (sites: readonly { inFeatures: number; outFeatures: number }[]): [number, number] => [
  Math.max(0, ...sites.map((s) => s.inFeatures)),
  Math.max(0, ...sites.map((s) => s.outFeatures)),
];

/** Kaiming-uniform with gain sqrt 2 in the order in which peft draws the two projections from one generator. */
function projection(key: number, shapes: readonly (readonly [number, number])[], which: number): Float32Array {
  const random = torchRandom(key);
  let values = new Float32Array(0);
  for (const [rows, columns] of shapes.slice(0, which + 1)) {
    const bound = Math.sqrt(6 / columns);
    values = random.uniform(rows * columns, -bound, bound) as Float32Array<ArrayBuffer>;
  }
  return values;
}

/** A [rowsOfA, widest input] and B [largest output, r], frozen and the same for all sites. */
export function sharedProjections(
  sites: readonly { inFeatures: number; outFeatures: number }[],
  { r, projectionPrngKey, saveProjection }: VeraConfig,
  rowsOfA: number,
): ByRole<ParameterSpec> {
  const [widest, tallest] = largestSizes(sites);
  const shapes = [
    [rowsOfA, widest],
    [tallest, r],
  ] as const;
  const spec = (which: 0 | 1): ParameterSpec => ({
    shape: shapes[which],
    init: () => projection(projectionPrngKey, shapes, which),
    trainable: false,
    saved: saveProjection,
  });
  return { A: spec(0), B: spec(1) };
}

/**
 * VeRA: y += b · ((d · (x·Aᵀ))·Bᵀ), A [r, in] and B [out, r] random, frozen and shared by all sites (slices of one pair of
 * the largest size); d [r] and b [out] trained. Kopiczko et al. 2023, arXiv 2310.11454. Parameters: r + out per site.
 * The projections are those of PyTorch's generator, so files that store only the seed are read rightly.
 */
export const vera = defineMethod<VeraConfig>({
  type: "VERA",
  paper: "2310.11454",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: veraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ outFeatures }, { r, dInitial }) => ({
    b: { shape: [outFeatures], init: zeros },
    d: { shape: [r], init: constant(dInitial) },
  }),
  shared: (sites, config) => sharedProjections(sites, config, config.r),
  // 3. Forward
  forward(g, { x, y, site }, values, { dropout }) {
    const a = g.slice(roleOf(values, "A"), [0], [site.inFeatures], [1]);
    const b = g.slice(roleOf(values, "B"), [0], [site.outFeatures], [0]);
    const h = g.mul(g.fusedMatMul(g.dropout(x, dropout), a, { transB: true }), roleOf(values, "d")); // [..., r]
    return g.add(y, g.mul(g.fusedMatMul(h, b, { transB: true }), roleOf(values, "b")));
  },
  // 4. Delta: diag(b)·B·diag(d)·A
  delta(tensors, _, site) {
    const a = columnRange(toMatrix(roleOf(tensors, "A")), 0, site.inFeatures);
    const b = rowRange(toMatrix(roleOf(tensors, "B")), 0, site.outFeatures);
    const product = multiply(b, scaleRows(a, roleOf(tensors, "d").data));
    return { weight: addToWeight(site, scaleRows(product, roleOf(tensors, "b").data)) };
  },
  // 5. Keys
  keys: { b: "vera_lambda_b", d: "vera_lambda_d" },
  sharedKeys: { A: "base_model.vera_A", B: "base_model.vera_B" },
  peft: { names: { dropout: "vera_dropout" }, only: { bias: ["none"] } },
});
