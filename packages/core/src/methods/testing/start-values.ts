import { initialParameters } from "../../adapters/adapter.ts";
import type { AdaptedGraph } from "../../adapters/inject.ts";
import { frozenSite } from "../../adapters/operands.ts";
import { type Matrix, matrix, multiply, scale } from "../../linalg/matrix.ts";
import { qr } from "../../linalg/qr.ts";
import { svd } from "../../linalg/svd.ts";
import { createRandom, type Random, streamSeed } from "../../random/random.ts";
import type { DataNeed, SiteData } from "../calibration.ts";

const drawn = (random: Random, rows: number, columns: number): Matrix =>
  matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => random.normal()),
  );

/** Statistics of data that does not exist. */
function madeUpData(need: DataNeed, out: number, width: number, random: Random): SiteData {
  switch (need.kind) {
    case "gram":
    case "covariance": {
      const rows = scale(drawn(random, 3 * width, width), 1 / Math.sqrt(3 * width));
      return { [need.kind]: multiply(rows, rows, { transA: true }) };
    }
    case "gradient":
      return { gradient: svd(drawn(random, out, width)) };
    case "components": {
      const count = Math.min(need.count, width);
      const basis = qr(drawn(random, width, count), { positive: true }).q;
      const numbers = Float64Array.from({ length: count }, (_, k) => 1 / (k + 1));
      const directions = matrix(
        count,
        width,
        Float64Array.from({ length: count * width }, (_, at) => {
          const [k, j] = [Math.floor(at / width), at % width];
          return basis.data[j * count + k] as number;
        }),
      );
      return { components: { directions, singularValues: numbers, explained: numbers } };
    }
  }
}

/** {@link initialParameters}; a start that needs data gets made-up data, the same for the same seed and module. */
export function startValues(adapted: AdaptedGraph, seed: number): Map<string, Float32Array> {
  const made = new Map<string, Float32Array>();
  for (const { site, method, config, parameters } of adapted.plans) {
    const need = site.kind === "linear" ? method.calibration?.needs(config) : null;
    if (!need) continue;
    const random = createRandom(streamSeed(seed, "data", site.name));
    const frozen = frozenSite(adapted.model.graph, site);
    const data = madeUpData(need, site.outFeatures, site.inFeatures, random);
    // What the frozen weight was rounded from.
    const original = { ...frozen, weight: () => frozen.weight().map((v) => v + 0.05 * random.normal()) };
    const started = method.start?.({ site, config, frozen, random, data, original }) ?? {};
    for (const { name, role } of parameters) if (started[role]) made.set(name, started[role]);
  }
  return initialParameters(adapted, seed, made);
}
