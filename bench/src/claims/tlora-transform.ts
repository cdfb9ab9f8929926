import { createRandom } from "@onnx-peft/core";
import type { Claim } from "../claim.ts";
import { bestPlanted, gaussian, identityRows, mean, plus, type Rows, times } from "../planted-layer.ts";

const FACTORS = [4, 4, 4];
const SIZE = 64;
const SEEDS = [1, 2, 3];
const RATES = [1e-3, 3e-3, 1e-2];

/** A tensor-ring matrix of rank 2 near the identity, and one per cent of dense noise. */
function nearIdentity(seed: number): Rows {
  const random = createRandom(`ring ${seed}`);
  const cores = FACTORS.map((n) =>
    Array.from({ length: n * n }, (_, at) =>
      Float64Array.from({ length: 4 }, () => (at % (n + 1) === 0 ? 0.5 : 0) + 0.1 * random.normal()),
    ),
  );
  const data = new Float32Array(SIZE * SIZE);
  for (let i = 0; i < SIZE; i++)
    for (let j = 0; j < SIZE; j++) {
      let [a, b] = [i, j];
      let product = [1, 0, 0, 1];
      FACTORS.forEach((n, d) => {
        const m = cores[d]?.[(a % n) * n + (b % n)] ?? new Float64Array(4);
        const [p, q, r, s] = product as [number, number, number, number];
        const [w, x, y, z] = [...m] as [number, number, number, number];
        product = [p * w + q * y, p * x + q * z, r * w + s * y, r * x + s * z];
        [a, b] = [Math.floor(a / n), Math.floor(b / n)];
      });
      data[i * SIZE + j] = (product[0] as number) + (product[3] as number);
    }
  const ring: Rows = { rows: SIZE, columns: SIZE, data };
  return plus(ring, gaussian(SIZE, SIZE, `noise ${seed}`, 0.01 / Math.sqrt(SIZE)));
}

export const claim: Claim = {
  id: "tlora-transform",
  paper: "2501.08727",
  statement:
    "A full-rank transform of the weight with a small residual comes nearer to changes of real fine-tuning than LoRA of as many parameters, and loses nothing where the change is of low rank.",
  setup:
    "One layer 64 x 64 = 4·4·4; target W·Q plus a matrix of rank 2, Q a tensor ring of rank 2 near the identity with one per cent of dense noise, and a target of rank 2 alone; AdamW, 2,000 steps, best of three learning rates, three seeds. Frobenius error that is left, relative to the change.",
  async run(context) {
    const left: Record<string, number[]> = {};
    const counts: Record<string, number> = {};
    const systems = {
      "transform and LoRA r 2": {
        type: "TLORA_TENSOR",
        config: { transformRank: 2, residual: "lora", residualRank: 2 },
      },
      "LoRA r 4": { type: "LORA", config: { r: 4, alpha: 4 } },
    } as const;
    for (const seed of SEEDS) {
      const weight = gaussian(SIZE, SIZE, `weight ${seed}`, 1 / 8);
      const low = times(gaussian(SIZE, 2, `left ${seed}`, 0.05), gaussian(2, SIZE, `right ${seed}`, 1));
      const targets = {
        transformed: plus(times(weight, nearIdentity(seed)), low),
        "of low rank": plus(weight, low),
      };
      for (const [where, target] of Object.entries(targets))
        for (const [name, { type, config }] of Object.entries(systems)) {
          const found = await context.remember(`${where}, ${name}, seed ${seed}`, () =>
            bestPlanted({ weight, target, type, config, steps: 2000, seed }, RATES),
          );
          const key = `${where}: ${name}`;
          left[key] = [...(left[key] ?? []), Math.sqrt(found.residual)];
          counts[name] = found.parameters;
        }
    }
    const at = (where: string, name: string): number => mean(left[`${where}: ${name}`] ?? []);
    const [ours, other] = Object.keys(systems) as [string, string];
    return {
      figures: {
        ...Object.fromEntries(Object.entries(left).map(([key, values]) => [`${key}, error left`, mean(values)])),
        ...Object.fromEntries(Object.entries(counts).map(([name, count]) => [`${name}, trained values`, count])),
        "transformed target, ratio of the errors": at("transformed", ours) / at("transformed", other),
        "energy of the identity in the targets' transform": 1 - mean(SEEDS.map((seed) => distance(seed))),
      },
      holds:
        at("transformed", ours) <= 0.8 * at("transformed", other) &&
        at("of low rank", other) <= at("of low rank", ours) + 0.01,
      note: "Asked for: at most 0.8 times LoRA's error on the transformed target; on the target of low rank LoRA is not beaten. The run on images belongs to the package for diffusion.",
    };
  },
};

/** Share of the squared transform that is not the identity. */
function distance(seed: number): number {
  const q = nearIdentity(seed);
  const off = plus(q, identityRows(SIZE), -1).data.reduce((sum, v) => sum + v * v, 0);
  return off / q.data.reduce((sum, v) => sum + v * v, 0);
}
