import { PeftError } from "../errors.ts";
import type { LocaConfig } from "./loca.ts";
import type { HookSetup, StepHooks } from "./step-hooks.ts";

/** Adam's constants for the places. */
const [BETA1, BETA2] = [0.9, 0.999];

interface Places {
  /** Places as fractions of a cell; what the graph sees is rounded. */
  readonly exact: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
}

/**
 * LoCA's alternating training: `coefficientSteps` steps on coefficients, `locationSteps` on places, until the first `locationShare` of the
 * steps is over; from then on coefficients only. The gradient of place l1_k is a_k (Z[l1 + 1, l2] - Z[l1 - 1, l2]) / 2 with Z the gradient
 * of the loss by a coefficient at that place, which the probes' gradients are. Probes are never moved; while places learn, coefficients are
 * held, the optimiser's state and step count for them included: counting those steps left a third of the gain on planted spectra.
 */
export function createLocations({ config, sites, values, totalSteps }: HookSetup<LocaConfig>): StepHooks {
  const learnt = config.learnLocations ? Math.round(config.locationShare * totalSteps) : 0;
  const period = config.coefficientSteps + config.locationSteps;
  const movesPlaces = (step: number): boolean => step < learnt && step % period >= config.coefficientSteps;
  const tensorOf = (name: string | undefined): Float32Array => values.get(name ?? "") ?? missing(name ?? "?");
  const places = new Map<string, Places>(
    sites.map(({ names }) => {
      const exact = tensorOf(names["locations"]).slice();
      return [
        names["locations"] ?? "",
        { exact, first: new Float32Array(exact.length), second: new Float32Array(exact.length) },
      ];
    }),
  );
  /** Gradient of the places from those of the probes, Adam's step, and rounding into the grid. */
  const move = (
    name: string,
    gradient: Float32Array,
    a: Float32Array,
    sizes: readonly [number, number],
    t: number,
  ): void => {
    const { exact, first, second } = places.get(name) ?? missing(name);
    const rounded = tensorOf(name);
    const n = a.length;
    for (let axis = 0; axis < 2; axis++) {
      for (let k = 0; k < n; k++) {
        const [up, down] = [gradient[2 * axis * n + k] as number, gradient[(2 * axis + 1) * n + k] as number];
        const slope = ((a[k] as number) * (up - down)) / 2;
        const i = axis * n + k;
        first[i] = BETA1 * (first[i] as number) + (1 - BETA1) * slope;
        second[i] = BETA2 * (second[i] as number) + (1 - BETA2) * slope * slope;
        const mean = (first[i] as number) / (1 - BETA1 ** t);
        const scale = Math.sqrt((second[i] as number) / (1 - BETA2 ** t)) + config.locationEpsilon;
        const place = (exact[i] as number) - (config.locationLearningRate * mean) / scale;
        exact[i] = Math.min(Math.max(place, 0), (sizes[axis] as number) - 1);
        rounded[i] = Math.round(exact[i] as number);
      }
    }
  };
  /** Location steps done before and with step `step`. */
  const locationStep = (step: number): number =>
    Math.floor(step / period) * config.locationSteps + (step % period) - config.coefficientSteps + 1;
  const still = new Map(sites.map(({ names }) => [names["a"] ?? "", "all"] as const));
  const none: ReadonlyMap<string, "all"> = new Map();
  let held = none;
  return {
    held: () => held,
    beforeUpdate(step, gradients) {
      held = movesPlaces(step) ? still : none;
      for (const { site, names } of sites) {
        const probe = gradients.get(names["probe"] ?? "");
        if (!probe) continue;
        if (movesPlaces(step)) {
          const a = tensorOf(names["a"]);
          move(names["locations"] ?? "", probe, a, [site.outFeatures, site.inFeatures], locationStep(step));
        }
        probe.fill(0);
      }
    },
    state: () =>
      Object.fromEntries(
        [...places].flatMap(([name, { exact, first, second }]) => [
          [`${name}:exact`, exact] as const,
          [`${name}:first`, first] as const,
          [`${name}:second`, second] as const,
        ]),
      ),
    restore(state) {
      for (const [name, { exact, first, second }] of places) {
        exact.set(state[`${name}:exact`] ?? missing(name));
        first.set(state[`${name}:first`] ?? missing(name));
        second.set(state[`${name}:second`] ?? missing(name));
      }
    },
  };
}

function missing(name: string): never {
  throw new PeftError("STATE_MISMATCH", `LoCA has no values for "${name}".`);
}
