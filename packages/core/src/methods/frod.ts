import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { add, diagonal, multiply } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { categoriesOf, categoryOf, drawPlaces, inBasis, sharedBasis } from "./frod-basis.ts";
import { zeros } from "./init.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";
import { flatPositions, scatterPositions } from "./positions.ts";

// 1. Config
export const frodConfig = z.strictObject({
  /** Trained entries of S outside the diagonal, as a share of in². */
  sparseRate: z.number().positive().max(1).default(0.01),
  /** What is added to the diagonal of the matrices whose inverses give the shared basis. */
  regularizationAlpha: z.number().positive().default(1e-3),
  /** Seed of the trained places, as `torch.manual_seed` takes it. */
  projectionPrngKey: z.int().min(0).default(0),
  /** Another library's eigenvectors may point the other way, and S counts on their directions: the basis is always in the file. */
  saveProjection: z.literal(true).default(true),
  dropout: z.number().min(0).lt(1).default(0),
  /** false: S starts normal, and what is trained of the diagonal is moved at random. */
  initWeights: z.boolean().default(true),
});
export type FrodConfig = z.output<typeof frodConfig>;

/** Trained entries of S. */
const countOf = (width: number, { sparseRate }: FrodConfig): number =>
  Math.max(1, Math.min(Math.trunc(width * width * sparseRate), width * (width - 1)));

/** Where no adapter is, the change is 0 whatever the basis: every tensor is 0. */
const frozen = { init: zeros, trainable: false } as const;

/** The tensors of a module's category. */
const basisOf = (tensors: ByRole<AdapterTensor>, site: SiteShape): AdapterTensor =>
  roleOf(tensors, `V:${categoryOf(site)}`);

/**
 * FRoD: every weight in a basis that all layers share, with trained scales and a few trained entries beside them. Wan et al. 2025, arXiv
 * 2512.23485. W = U·diag(l0)·Vᵀ with V [in, in] from a joint decomposition of the weights of one kind of module, U [out, in] with columns of
 * length 1; W' = U·(diag(l) + S)·Vᵀ of full rank, l [in] trained from l0, S sparse at places [2, n] that a kind shares, its values trained
 * from 0. Computed as y += ((x·V) * (l - l0) + (x·V)·Sᵀ)·Uᵀ, so the start is the base bit for bit and W may be quantised. V and places
 * are in the file, U and l0 come from the base again. In peft 0.21 U belongs to the basis that it makes itself, also where the file holds another
 * one, so that its own files alone are read rightly there. Parameters: in + sparseRate in² per site. Making it costs a QR decomposition of all
 * weights of a kind, an inverse and a solution [in, in] per module.
 */
export const frod = defineMethod<FrodConfig>({
  type: "FROD",
  paper: "2512.23485",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: frodConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: ({ inFeatures, outFeatures }, config) => ({
    l: { shape: [inFeatures], init: zeros },
    s: { shape: [countOf(inFeatures, config)], init: zeros },
    l0: { shape: [inFeatures], ...frozen, saved: false },
    U: { shape: [outFeatures, inFeatures], ...frozen, saved: false },
  }),
  shared(sites, config) {
    const kinds = [...categoriesOf(sites)].map(([category, [first]]) => ({ category, width: first?.inFeatures ?? 0 }));
    const sizes = kinds.map(({ width }) => ({ width, count: countOf(width, config) }));
    let drawn: Float32Array[] | undefined;
    const placesOf = (k: number): Float32Array => {
      drawn ??= drawPlaces(sizes, config.projectionPrngKey);
      return drawn[k] ?? new Float32Array(0);
    };
    const specs: Record<string, ParameterSpec> = {};
    kinds.forEach(({ category, width }, k) => {
      const places = { shape: [2, countOf(width, config)], trainable: false, fileType: "int64" } as const;
      specs[`V:${category}`] = { shape: [width, width], ...frozen };
      specs[`places:${category}`] = { ...places, init: () => placesOf(k) };
      specs[`size:${category}`] = { ...places, shape: [2], init: () => Float32Array.of(width, width) };
    });
    return specs;
  },
  startShared({ sites, config }) {
    const kinds = categoriesOf(sites.map(({ site, frozen }) => ({ ...site, frozen })));
    return Object.fromEntries(
      [...kinds].map(([category, modules]) => {
        const weights = modules.map((module) => frozenMatrix(module, module.frozen));
        return [`V:${category}`, Float32Array.from(sharedBasis(weights, config.regularizationAlpha).data)];
      }),
    );
  },
  start({ site, config, frozen, random, shared = {} }) {
    const { U, lengths } = inBasis(frozenMatrix(site, frozen), toMatrix(basisOf(shared, site)));
    const [l0, s] = [Float32Array.from(lengths), new Float32Array(countOf(site.inFeatures, config))];
    const moved = { l: l0.map((v) => v + 0.1 * random.normal()), s: s.map(() => 0.1 * random.normal()) };
    return { l0, U: Float32Array.from(U.data), ...(config.initWeights ? { l: l0.slice(), s } : moved) };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { dropout }) {
    const [category, width] = [categoryOf(site), site.inFeatures];
    const s = roleOf(values, "s");
    const flat = g.reshape(flatPositions(g, roleOf(values, `places:${category}`), width), s.shape);
    const sparse = g.reshape(g.scatterElements(g.filled([width * width], 0), flat, s, 0), [width, width]);
    const z = g.matMul(g.dropout(x, dropout), roleOf(values, `V:${category}`)); // [..., in]
    const scaled = g.mul(z, g.sub(roleOf(values, "l"), roleOf(values, "l0")));
    const turned = g.add(scaled, g.fusedMatMul(z, sparse, { transB: true }));
    return g.add(y, g.fusedMatMul(turned, roleOf(values, "U"), { transB: true }));
  },
  // 4. Delta: U·(diag(l - l0) + S)·Vᵀ
  delta(tensors, _, site) {
    const { inFeatures } = site;
    const square = { ...site, outFeatures: inFeatures };
    const places = roleOf(tensors, `places:${categoryOf(site)}`).data;
    const sparse = scatterPositions(square, roleOf(tensors, "s").data, places, "Place");
    const [l, l0] = [roleOf(tensors, "l").data, roleOf(tensors, "l0").data];
    const middle = add(sparse, diagonal(Float64Array.from(l, (v, i) => v - (l0[i] as number))));
    const left = multiply(toMatrix(roleOf(tensors, "U")), middle);
    return { weight: addToWeight(site, multiply(left, toMatrix(basisOf(tensors, site)), { transB: true })) };
  },
  // U and l0 are those of the weight it is used with.
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { l: "frod_lambda_l", s: "frod_lambda_s_values", l0: "frod_lambda_l0", U: "frod_U" },
  sharedKeys(role) {
    const [kind = "", category] = role.split(":");
    const names: Readonly<Record<string, string>> = { V: "frod_V", places: "frod_s_indices", size: "frod_s_size" };
    return `base_model.${names[kind]}.${category}`;
  },
  peft: { names: { dropout: "frod_dropout" }, only: { bias: ["none"] } },
});
