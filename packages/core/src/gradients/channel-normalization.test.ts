import { describe, test } from "vitest";
import { float } from "../graph/attributes.ts";
import { type CheckedFunction, checkGradient } from "../testing/check-gradient.ts";

const epsilon = { epsilon: float(1e-3) };

describe("BatchNormalization", () => {
  test.each([[[2, 3]], [[2, 3, 4]], [[1, 2, 3, 3]]])("%j with all five inputs", (dims) =>
    checkGradient(
      (g, v) => g.op("BatchNormalization", v, epsilon),
      [{ dims }, ...[0, 1, 2].map(() => ({ dims: [dims[1]!] })), { dims: [dims[1]!], range: [0.5, 2] as const }],
    ),
  );
  test("frozen statistics, opset 11", () =>
    checkGradient(
      (g, v) => g.op("BatchNormalization", v, epsilon),
      [
        { dims: [2, 3, 5] },
        { dims: [3] },
        { dims: [3], frozen: true },
        { dims: [3], constant: true },
        { dims: [3], range: [0.5, 2], constant: true },
      ],
      { opset: 11 },
    ));
  describe("training mode", () => {
    const training = { ...epsilon, training_mode: 1, momentum: float(0.75) };
    const statistics = (channels: number) => [
      { dims: [channels] },
      { dims: [channels] },
      { dims: [channels], constant: true },
      { dims: [channels], range: [0.5, 2] as const, constant: true },
    ];
    test.each([[[4, 3]], [[2, 3, 5]], [[2, 2, 3, 3]]])("%j through the statistics of the batch", (dims) =>
      checkGradient(
        (g, v) => g.op("BatchNormalization", v, training, { count: 3 })[0]!,
        [{ dims }, ...statistics(dims[1]!)],
      ),
    );
    test("what it hands out is differentiated too", () =>
      checkGradient(
        (g, v) => g.op("BatchNormalization", v, training, { count: 3 }),
        [{ dims: [3, 2, 4] }, { dims: [2] }, { dims: [2] }, { dims: [2] }, { dims: [2], range: [0.5, 2] }],
        { opset: 15 },
      ));
    test("x frozen, scale frozen", async () => {
      const f: CheckedFunction = (g, v) => g.op("BatchNormalization", v, training, { count: 3 })[0]!;
      const [scale, ...rest] = statistics(2);
      await checkGradient(f, [{ dims: [3, 2, 4], frozen: true }, scale!, ...rest]);
      await checkGradient(f, [{ dims: [3, 2, 4] }, { ...scale!, frozen: true }, ...rest]);
    });
  });
});

describe("MeanVarianceNormalization", () => {
  test("all but channels", () =>
    checkGradient((g, v) => g.op("MeanVarianceNormalization", v), [{ dims: [2, 3, 4, 2] }]));
  test.each([[[1, 2]], [[-1]], [[0, 2]]])("over %j", (axes) =>
    checkGradient((g, v) => g.op("MeanVarianceNormalization", v, { axes }), [{ dims: [2, 3, 4] }], { opset: 13 }),
  );
});

describe("InstanceNormalization", () => {
  test.each([[[2, 3, 5]], [[1, 2, 3, 4]]])("%j", (dims) =>
    checkGradient(
      (g, v) => g.op("InstanceNormalization", v, epsilon),
      [{ dims }, { dims: [dims[1]!] }, { dims: [dims[1]!] }],
    ),
  );
  test("one frozen", () =>
    checkGradient(
      (g, v) => g.op("InstanceNormalization", v, epsilon),
      [{ dims: [2, 2, 3] }, { dims: [2], frozen: true }, { dims: [2] }],
    ));
});

describe("GroupNormalization", () => {
  test.each([
    { dims: [2, 4, 3], groups: 2 },
    { dims: [1, 6, 2, 2], groups: 3 },
    { dims: [2, 3, 5], groups: 1 },
  ])("$dims in $groups groups, scale per channel and per group", async ({ dims, groups }) => {
    const f: CheckedFunction = (g, v) => g.op("GroupNormalization", v, { ...epsilon, num_groups: groups });
    const per = (size: number) => [{ dims }, { dims: [size] }, { dims: [size] }];
    await checkGradient(f, per(dims[1]!), { opset: 21 });
    await checkGradient(f, per(groups), { opset: 18 });
  });
  test("one frozen", () =>
    checkGradient(
      (g, v) => g.op("GroupNormalization", v, { ...epsilon, num_groups: 2 }),
      [{ dims: [2, 4, 3], frozen: true }, { dims: [4] }, { dims: [4] }],
    ));
});

describe("LpNormalization", () => {
  const away = { range: [0.2, 1] as const };
  test.each([
    { dims: [2, 3], axis: -1, p: 2 },
    { dims: [3, 2, 5], axis: 1, p: 2 },
    { dims: [4], axis: 0, p: 1 },
    { dims: [2, 3, 2], axis: -2, p: 1 },
  ])("$dims over $axis, p $p", ({ dims, axis, p }) =>
    checkGradient((g, [x]) => g.op("LpNormalization", [x!], { axis, p }), [{ dims, ...away }]),
  );
});

describe("LRN", () => {
  test.each([
    { dims: [2, 5, 3], size: 3 },
    { dims: [1, 6, 2, 2], size: 5 },
    { dims: [2, 4, 1], size: 1 },
    { dims: [1, 2, 3], size: 5 },
  ])("$dims, window $size", ({ dims, size }) =>
    checkGradient(
      (g, [x]) => g.op("LRN", [x!], { size, alpha: float(0.5), beta: float(0.6), bias: float(0.7) }),
      [{ dims: dims.length === 3 ? [...dims, 1] : dims }],
    ),
  );
});
