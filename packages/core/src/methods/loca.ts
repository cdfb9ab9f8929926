import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { dctMatrix } from "../linalg/dct.ts";
import { matrix } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import {
  cosineCost,
  cosineTable,
  cosineTransform,
  inverseCosineTransform,
  placeOfFrequency,
} from "./cosine-transform.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { createLocations } from "./loca-locations.ts";
import { type ByRole, defineMethod } from "./method.ts";
import { positionsFrom } from "./positions.ts";

// 1. Config
export const locaConfig = z.strictObject({
  /** Trained coefficients per module. */
  nFrequency: z.int().positive().max(10_000_000).default(1000),
  scaling: z.number().default(100),
  /** Move the places of the coefficients during the first share of the training. */
  learnLocations: z.boolean().default(true),
  /** Steps on coefficients, then steps on places, in turn. */
  coefficientSteps: z.int().positive().default(10),
  locationSteps: z.int().positive().default(20),
  /** Share of the training after which the places stay. */
  locationShare: z.number().min(0).max(1).default(0.1),
  /** In cells of the grid. */
  locationLearningRate: z.number().positive().default(0.5),
  /**
   * Adam's epsilon for places. Their slopes are products of a coefficient and a difference of gradients: where losses are means of small
   * errors, a smaller one lets places of small coefficients move too.
   */
  locationEpsilon: z.number().positive().default(1e-8),
  initWeights: z.enum(["zero", "normal"]).default("zero"),
});
export type LocaConfig = z.output<typeof locaConfig>;

/** The four neighbours of a place: which of its two indices moves, and where to. */
export const neighbours = [
  { axis: 0, by: 1 },
  { axis: 0, by: -1 },
  { axis: 1, by: 1 },
  { axis: 1, by: -1 },
] as const;

/** The places of the coefficients, and those of the probes when there are any: indices into rows and columns, int64 [n] each. */
function placesOf(g: Builder, values: ByRole<Value>, { outFeatures, inFeatures }: SiteShape): [Value, Value][] {
  const [l1, l2] = g.split(g.cast(roleOf(values, "locations"), "int64"), [1, 1], 0).map((v) => g.squeeze(v, [0]));
  if (!l1 || !l2) throw new PeftError("PARAMETER", "LoCA's locations are rows and columns.");
  const moved = (index: Value, by: number, size: number): Value =>
    g.max(g.min(g.add(index, g.ints([by])), g.ints([size - 1])), g.ints([0]));
  const around = neighbours.map(({ axis, by }): [Value, Value] =>
    axis === 0 ? [moved(l1, by, outFeatures), l2] : [l1, moved(l2, by, inFeatures)],
  );
  return values["probe"] ? [[l1, l2], ...around] : [[l1, l2]];
}

/** S [out, in] with values added at the places, rows and columns in the order of the transforms. */
function coefficientGrid(g: Builder, places: readonly [Value, Value][], values: Value, site: SiteShape): Value {
  const { outFeatures, inFeatures } = site;
  const flat = places.map(([rows, columns]) =>
    g.add(
      g.mul(placeOfFrequency(g, rows, outFeatures), g.ints([inFeatures])),
      placeOfFrequency(g, columns, inFeatures),
    ),
  );
  const empty = g.filled([outFeatures * inFeatures], 0);
  return g.reshape(g.scatterElements(empty, g.concat(flat, 0), values, 0, "add"), [outFeatures, inFeatures]);
}

/** First opset whose ScatterElements can add. */
const ADDING_OPSET = 16;

/**
 * LoCA: dW = scaling · Cᵀ·S·D with orthonormal cosine matrices C [out, out], D [in, in] and S zero but for n coefficients a_k at places (l1_k, l2_k),
 * which are learned too. Du et al. 2025, arXiv 2502.06820 (no official code; schedule and constants are this project's reading). Places that
 * meet add up. A place's gradient is the central difference of the loss over its neighbours: four leaves that are always zero sit
 * there (`probe`), and their gradients are exactly what is needed; see `loca-locations.ts`. Applied to x as (x·Dᵀ)·Sᵀ·C with S scattered from
 * coefficients and probes, or, for few coefficients without probes, with the rows of C and D at their places. Parameters: n per site, and
 * 2 n integers.
 */
export const loca = defineMethod<LocaConfig>({
  type: "LOCA",
  paper: "2502.06820",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights === "zero",
  neutral: "empty",
  config: locaConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { nFrequency: n, initWeights, learnLocations }) {
    if (n > inFeatures * outFeatures) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `LoCA with ${n} coefficients; "${name}" has ${inFeatures * outFeatures} places.`,
        {
          hint: "Lower nFrequency.",
        },
      );
    }
    return {
      a: { shape: [n], init: initWeights === "zero" ? zeros : normal(1) },
      locations: {
        shape: [2, n],
        trainable: false,
        fileType: "int64",
        init({ random }) {
          return positionsFrom(random.permutation(inFeatures * outFeatures).subarray(0, n), inFeatures);
        },
      },
      ...(learnLocations ? { probe: { shape: [neighbours.length, n], init: zeros, saved: false } } : {}),
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { scaling, nFrequency }) {
    const { inFeatures, outFeatures } = site;
    const places = placesOf(g, values, site);
    const { a, probe } = { a: roleOf(values, "a"), probe: values["probe"] };
    const weights = probe
      ? [
          a,
          ...g
            .split(
              probe,
              neighbours.map(() => 1),
              0,
            )
            .map((row) => g.squeeze(row, [0])),
        ]
      : [a];
    const byRows = places.length * nFrequency * (inFeatures + outFeatures);
    const byGrid = cosineCost(inFeatures) + inFeatures * outFeatures + cosineCost(outFeatures);
    if (byGrid < byRows && g.opset >= ADDING_OPSET) {
      const grid = coefficientGrid(g, places, g.concat(weights, 0), site);
      const mixed = g.fusedMatMul(cosineTransform(g, x, inFeatures), grid, { transB: true, alpha: scaling });
      return g.add(y, inverseCosineTransform(g, mixed, outFeatures));
    }
    const [c, d] = [cosineTable(g, outFeatures), cosineTable(g, inFeatures)];
    return places.reduce((total, [rows, columns], k) => {
      const h = g.fusedMatMul(x, g.gather(d, columns), { transB: true });
      return g.add(total, g.matMul(g.mul(h, g.mul(weights[k] as Value, scaling)), g.gather(c, rows)));
    }, y);
  },
  // 4. Delta
  delta(tensors, { scaling }, site) {
    const { data: a } = roleOf(tensors, "a");
    const { data: locations } = roleOf(tensors, "locations");
    const [c, d] = [dctMatrix(site.outFeatures), dctMatrix(site.inFeatures)];
    const change = matrix(site.outFeatures, site.inFeatures);
    a.forEach((value, k) => {
      const [p, q] = [locations[k] as number, locations[a.length + k] as number];
      if (!(p >= 0 && p < site.outFeatures && q >= 0 && q < site.inFeatures))
        throw new PeftError(
          "PARAMETER",
          `Place (${p}, ${q}) lies outside "${site.name}" [${site.outFeatures}, ${site.inFeatures}].`,
        );
      for (let o = 0; o < site.outFeatures; o++) {
        const factor = scaling * value * (c.data[p * site.outFeatures + o] as number);
        for (let i = 0; i < site.inFeatures; i++) {
          const at = o * site.inFeatures + i;
          change.data[at] = (change.data[at] as number) + factor * (d.data[q * site.inFeatures + i] as number);
        }
      }
    });
    return { weight: addToWeight(site, change) };
  },
  // 5. Keys
  keys: { a: "loca_spectrum", locations: "loca_location", probe: "loca_probe" },
  hooks: createLocations,
});
