import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { mersenneTwister } from "./mersenne-twister.ts";
import { torchRandom } from "./torch-random.ts";

/** Printed by PyTorch 2.15 (CPU, AVX-512) with `torch.Generator().manual_seed(seed)`. */
const golden = {
  uniform: [
    0.8822692632675171, 0.9150039553642273, 0.38286375999450684, 0.9593056440353394, 0.3904482126235962,
    0.600895345211029, 0.2565724849700928, 0.7936413288116455,
  ],
  uniformRange: [
    0.23492252826690674, -0.10119682550430298, 0.35921168327331543, 0.3568902611732483, -0.067238450050354,
    0.12506139278411865, -0.09291398525238037, 0.3297363519668579, 0.06531614065170288, 0.5512683391571045,
    0.5549431443214417, 0.2509351968765259,
  ],
  uniformVera: [
    0.04149416461586952, -0.35787516832351685, 0.1891716867685318, 0.18641343712806702, -0.31752660870552063,
    -0.08904032409191132, -0.3480336666107178, 0.15414977073669434, -0.16002826392650604, 0.41736900806427,
    0.42173534631729126, 0.060520049184560776,
  ],
  randperm: [7, 15, 11, 14, 1, 3, 13, 8, 4, 2, 0, 6, 5, 9, 12, 10],
  randpermBig: [
    [5735, 8235, 1547, 1392, 999, 8407],
    [3716, 3153, 5040, 1273, 5874, 6655],
  ],
  normalSmall: [2.6065521240234375, 1.3496668338775635, 1.177956223487854, -0.22743602097034454, 1.0923649072647095],
  normalSmallAfter: [-1.3682591915130615, 0.3374950885772705, 1.0111159086227417, -1.435179352760315],
  after: [0.6483104228973389, 0.2147577404975891],
  normal16: [
    1.8423298597335815, 0.5188871622085571, -1.7119213342666626, -1.7013792991638184, 2.0194194316864014,
    -0.26861444115638733, -0.13071750104427338, -1.4374138116836548, 0.39076822996139526, -0.0189677607268095,
    -1.3526873588562012, -0.7308177947998047, 0.9879222512245178, -0.4194079339504242, -0.5848958492279053,
    -0.782335102558136,
  ],
  normal37: [
    0.5368465781211853, 0.5103777647018433, 0.46576157212257385, 0.4659724235534668, 0.5403884053230286,
    0.4946277141571045, 0.4973856508731842, 0.4712517261505127, 0.5078153610229492, 0.499620646238327,
    0.47294625639915466, 0.48538362979888916, 0.5197584629058838, 0.4916118383407593, 0.488302081823349,
    0.48435330390930176, 0.5555972456932068, 0.5244405269622803, 0.49327102303504944, 0.4806987941265106,
    0.4974067509174347, 0.5057590007781982, 0.518735945224762, 0.4519372880458832, 0.5163668394088745,
    0.48673444986343384, 0.505305290222168, 0.4686792194843292, 0.46718648076057434, 0.49586743116378784,
    0.48948097229003906, 0.4660453498363495, 0.47927066683769226, 0.5134092569351196, 0.496445894241333,
    0.5086274743080139, 0.5248340368270874,
  ],
  normal37After: [0.2514558434486389, 0.7662155032157898],
  randn20: [
    -1.067394733428955, -0.71724534034729, 1.089719295501709, -1.574683666229248, 1.515879511833191,
    -1.5260852575302124, -1.540930986404419, -0.7916085720062256, 0.8376546502113342, 0.16024821996688843,
    -0.3353947103023529, -1.456764817237854, -0.27446427941322327, -1.0569112300872803, -1.5705366134643555,
    -1.415338158607483, -0.6945326328277588, -0.3532123565673828, -2.2200427055358887, 0.9683225750923157,
  ],
  usha: "6e11e17e08869612abe8075d335fddf0ea5f730db1d29fc4c4916a0d802d12bc",
  /** torch.empty(100000).normal_() with seed 1 and torch.empty(1000).normal_(0.3, 0.02) with seed 9, PyTorch 2.13. */
  nsha: "2ca236e63bb6433d890aa70d689927e1fc96bf9536c9a26ad41dfcb0e479a0db",
  nsha1000: "5b57b58e8bcc257579a3872771ee86e8829d8a19bcd555e4c00006107b6c9ec4",
};

const hash = (values: Float32Array): string => createHash("sha256").update(Buffer.from(values.buffer)).digest("hex");

const expectClose = (actual: Float32Array, expected: readonly number[], tolerance: number) => {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i]! - expected[i]!), `element ${i}`).toBeLessThanOrEqual(tolerance);
  }
};

test("mersenneTwister: first and ten-thousandth number of the C++ standard's default seed", () => {
  const next = mersenneTwister(5489);
  expect(next()).toBe(3499211612);
  for (let i = 2; i < 10_000; i++) next();
  expect(next()).toBe(4123659995); // the value the C++ standard demands
});

describe("torchRandom equals PyTorch", () => {
  test("uniform, bit for bit, on any range", () => {
    expect([...torchRandom(42).uniform(8)]).toEqual(golden.uniform);
    expect([...torchRandom(7).uniform(12, -0.3, 0.7)]).toEqual(golden.uniformRange);
    const bound = Math.sqrt(6) / Math.sqrt(17);
    expect([...torchRandom(7).uniform(12, -bound, bound)]).toEqual(golden.uniformVera);
    const many = torchRandom(1).uniform(100_000, -0.3, 0.7);
    expect(hash(many)).toBe(golden.usha);
  });

  test("randperm", () => {
    expect([...torchRandom(777).randperm(16)]).toEqual(golden.randperm);
    const order = torchRandom(777).randperm(10_000);
    expect([[...order.subarray(0, 6)], [...order.subarray(-6)]]).toEqual(golden.randpermBig);
    expect([...torchRandom(1).randperm(0)]).toEqual([]);
  });

  test("normal below 16 elements, with the cached half of an odd call", () => {
    const random = torchRandom(3);
    expectClose(random.normal(5, 1, 2), golden.normalSmall, 0);
    expectClose(random.normal(4), golden.normalSmallAfter, 0);
    expectClose(random.uniform(2), golden.after, 0);
  });

  test("normal from 16 elements on, tail included, and the position afterwards", () => {
    expectClose(torchRandom(5).normal(16), golden.normal16, 0);
    const random = torchRandom(5);
    expectClose(random.normal(37, 0.5, 0.02), golden.normal37, 0);
    expectClose(random.uniform(2), golden.normal37After, 0);
    expectClose(torchRandom(2 ** 32 + 9).normal(20), golden.randn20, 0);
    expect(hash(torchRandom(1).normal(100_000))).toBe(golden.nsha);
    expect(hash(torchRandom(9).normal(1000, 0.3, 0.02))).toBe(golden.nsha1000);
  });

  test("what it does not reproduce is refused", () => {
    for (const seed of [-1, 0.5, 2 ** 53]) {
      expect(() => torchRandom(seed)).toThrow(expect.objectContaining({ code: "SEED_INVALID" }));
    }
    expect(() => torchRandom(1).randperm(214748365)).toThrow(
      expect.objectContaining({ code: "TORCH_RANDOM_UNSUPPORTED" }),
    );
  });
});
