import { describe, expect, test } from "vitest";
import { findSites } from "../adapters/sites.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { checkFormula, type Formula } from "./testing/check-lowering.ts";
import { fusedModel } from "./testing/fused-model.ts";

/** {@link checkFormula} as the body of a test. */
const holds = async (...given: Parameters<typeof checkFormula>): Promise<void> => {
  await checkFormula(...given);
};

interface Options {
  readonly groups: number;
  readonly epsilon: number;
  readonly activation: 0 | 1;
  readonly channelsLast: boolean;
}

/** Group normalisation, number by number; with a skip, also of the sum. */
const groupNorm =
  ({ groups, epsilon, activation, channelsLast }: Options): Formula =>
  ([x, gamma, beta, skip, bias]) => {
    const { dims, data } = x as RuntimeTensor;
    const [batch, channels, pixels] = channelsLast
      ? [dims[0]!, dims[3]!, dims[1]! * dims[2]!]
      : [dims[0]!, dims[1]!, dims[2]! * dims[3]!];
    const at = (n: number, c: number, p: number): number =>
      channelsLast ? (n * pixels + p) * channels + c : (n * channels + c) * pixels + p;
    const sum = Float64Array.from(data as Float32Array);
    for (let n = 0; n < batch; n++) {
      for (let c = 0; c < channels; c++) {
        for (let p = 0; p < pixels; p++) {
          const i = at(n, c, p);
          if (skip) sum[i]! += Number(skip.data[skip.data.length === sum.length ? i : n * channels + c]);
          if (bias) sum[i]! += Number(bias.data[c]);
        }
      }
    }
    const y = new Float32Array(sum.length);
    const size = channels / groups;
    for (let n = 0; n < batch; n++) {
      for (let group = 0; group < groups; group++) {
        const places: [c: number, i: number][] = [];
        for (let c = group * size; c < (group + 1) * size; c++)
          for (let p = 0; p < pixels; p++) places.push([c, at(n, c, p)]);
        const mean = places.reduce((s, [, i]) => s + sum[i]!, 0) / places.length;
        const variance = places.reduce((s, [, i]) => s + (sum[i]! - mean) ** 2, 0) / places.length;
        for (const [c, i] of places) {
          const z = ((sum[i]! - mean) / Math.sqrt(variance + epsilon)) * Number(gamma!.data[c]) + Number(beta!.data[c]);
          y[i] = activation === 1 ? z / (1 + Math.exp(-z)) : z;
        }
      }
    }
    return [
      { type: "float32", dims, data: y },
      { type: "float32", dims, data: Float32Array.from(sum) },
    ];
  };

const attributes = ({ groups, epsilon, activation, channelsLast }: Options) => ({
  groups,
  epsilon: { type: "float", value: epsilon } as const,
  activation,
  channels_last: channelsLast ? 1 : 0,
});

const options: Options[] = [
  { groups: 2, epsilon: 1e-5, activation: 0, channelsLast: true },
  { groups: 3, epsilon: 1e-2, activation: 1, channelsLast: true },
  { groups: 1, epsilon: 1e-5, activation: 1, channelsLast: false },
  { groups: 6, epsilon: 1e-5, activation: 0, channelsLast: false },
];
const dimsOf = ({ channelsLast }: Options): number[] => (channelsLast ? [2, 3, 5, 6] : [2, 6, 3, 5]);

describe("GroupNorm", () => {
  test.each(options)("%j", (o) =>
    holds(
      {
        op: "GroupNorm",
        inputs: [{ dims: dimsOf(o) }, { dims: [6] }, { dims: [6] }],
        attributes: attributes(o),
        outputs: [{ rank: 4 }],
      },
      groupNorm(o),
    ),
  );

  test("an activation that is not known is refused", () => {
    const spec = {
      op: "GroupNorm",
      inputs: [{ dims: [1, 2, 2, 4] }, { dims: [4] }, { dims: [4] }],
      attributes: { groups: 2, activation: 3 },
    };
    expect(() => findSites(fusedModel(spec).model)).toThrow(/GroupNorm.*activation 3/);
  });
});

describe("SkipGroupNorm", () => {
  const skips: { name: string; skip: (o: Options) => number[]; bias: boolean }[] = [
    { name: "a skip of the same size", skip: dimsOf, bias: false },
    { name: "a skip of the same size and a bias", skip: dimsOf, bias: true },
    { name: "a row of channels for each image", skip: () => [2, 6], bias: true },
  ];
  test.each(options.flatMap((o) => skips.map((s) => ({ ...o, ...s }))))(
    "$name, channels last $channelsLast, $groups groups, activation $activation",
    ({ skip, bias, name: _, ...o }) =>
      holds(
        {
          op: "SkipGroupNorm",
          inputs: [
            { dims: dimsOf(o) },
            { dims: [6] },
            { dims: [6] },
            { dims: skip(o) },
            ...(bias ? [{ dims: [6] }] : []),
          ],
          attributes: attributes(o),
          outputs: [{ rank: 4 }, { rank: 4 }],
        },
        groupNorm(o),
      ),
  );
  test("a skip [batch, 1, 1, channels]", () => {
    const o = options[0]!;
    return holds(
      {
        op: "SkipGroupNorm",
        inputs: [{ dims: dimsOf(o) }, { dims: [6] }, { dims: [6] }, { dims: [2, 1, 1, 6] }],
        attributes: attributes(o),
        outputs: [{ rank: 4 }],
      },
      groupNorm(o),
    );
  });
});
