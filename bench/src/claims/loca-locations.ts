import { idct2, matrix } from "@onnx-peft/core";
import type { Claim } from "../claim.ts";
import { gaussian, mean, plus, type Rows, trainPlanted } from "../planted-layer.ts";

const SIZE = 48;

/** A change whose spectrum falls with the distance from the lowest frequency. */
function planted(seed: number): Rows {
  const spectrum = gaussian(SIZE, SIZE, `spectrum ${seed}`);
  const data = spectrum.data.map((v, i) => v * Math.exp(-Math.hypot(Math.floor(i / SIZE), i % SIZE) / 6));
  const change = idct2(matrix(SIZE, SIZE, data));
  return { rows: SIZE, columns: SIZE, data: Float32Array.from(change.data) };
}

export const claim: Claim = {
  id: "loca-locations",
  paper: "2502.06820",
  statement:
    "Cosine coefficients whose places are learned reach a change better than coefficients at fixed random places.",
  setup:
    "One layer 48 x 48 whose change has a spectrum exp(-distance / 6), 100 coefficients, 3,000 AdamW steps, places learned in the first 60 % (with Adam's epsilon at 1e-16: far coefficients have slopes below the usual 1e-8), ten seeds; relative error that is left.",
  async run(context) {
    const left = { learned: [] as number[], fixed: [] as number[] };
    for (let seed = 1; seed <= 10; seed++) {
      const weight = gaussian(SIZE, SIZE, `weight ${seed}`, 0.1);
      const target = plus(weight, planted(seed));
      for (const name of ["learned", "fixed"] as const) {
        const config = {
          ...{ nFrequency: 100, scaling: 1, learnLocations: name === "learned" },
          ...{ locationShare: 0.6, locationEpsilon: 1e-16 },
        };
        const { residual } = await context.remember(`planted, ${name}, seed ${seed}, ${JSON.stringify(config)}`, () =>
          trainPlanted({
            weight,
            target,
            type: "LOCA",
            config,
            learningRate: 2e-2,
            steps: 3000,
            seed,
            schedule: "constant",
          }),
        );
        left[name].push(Math.sqrt(residual));
      }
    }
    const wins = left.learned.filter((v, i) => v < (left.fixed[i] as number)).length;
    const gain = mean(left.fixed) - mean(left.learned);
    return {
      figures: {
        "planted: learned places, error left": mean(left.learned),
        "planted: fixed places, error left": mean(left.fixed),
        "planted: seeds with less error, of ten": wins,
      },
      holds: wins >= 8 && gain >= 0.03,
      note: "Asked for: less error for eight of ten seeds and three points in the mean. The estimate is local, one cell at a time: no gain is to be expected on a white or isolated spectrum.",
    };
  },
};
