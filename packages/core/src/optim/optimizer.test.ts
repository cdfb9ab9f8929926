import { describe, expect, test } from "vitest";
import { createOptimizer } from "./optimizer.ts";
import type { OptimizerInput, ParameterGroup } from "./optimizer-config.ts";

/** Final values after 20 steps of torch.optim (PyTorch 2.15), start and gradients as below, learning rate falling linearly to 0. */
const golden = {
  adamw: {
    a: [
      0.29109638929367065, 0.9003125429153442, 0.8315051794052124, 0.1309460699558258, -0.6809640526771545,
      -0.9948580265045166,
    ],
    b: [1.1879963874816895, 1.3743400573730469, 0.8028856515884399],
  },
  adamwDefault: {
    a: [
      0.29537633061408997, 0.9298222064971924, 0.8608990907669067, 0.13872608542442322, -0.6878122687339783,
      -0.9970712661743164,
    ],
    b: [0.8941890001296997, 0.9139565825462341, 0.2449619174003601],
  },
  sgd: {
    a: [
      0.375764399766922, 0.931797981262207, 0.8632010221481323, 0.14111986756324768, -0.8412019610404968,
      -0.9975110292434692,
    ],
    b: [1.0120283365249634, 0.9112246036529541, 0.2392759472131729],
  },
  sgdMomentum: {
    a: [
      0.3088299334049225, 0.9144266247749329, 0.8472208380699158, 0.1385069191455841, -0.7188444137573242,
      -0.97810959815979,
    ],
    b: [0.9224571585655212, 0.8931756615638733, 0.23483020067214966],
  },
  sgdNesterov: {
    a: [
      0.31954216957092285, 0.9058957099914551, 0.8392331004142761, 0.13720105588436127, -0.7437685132026672,
      -0.9691362977027893,
    ],
    b: [0.9394370913505554, 0.8851383924484253, 0.23262037336826324],
  },
};

const start = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(seed + 0.9 * i));

/** Gradients over six decades, with exact zeros. */
const gradient = (n: number, seed: number, t: number) =>
  Float32Array.from({ length: n }, (_, i) =>
    (i + t) % 5 === 0 ? 0 : Math.sin(seed + 0.7 * i + 1.3 * t) * 10 ** (-(i % 4) * 2),
  );
const gradients = (t: number) =>
  new Map([
    ["a", gradient(6, 0.5, t)],
    ["b", gradient(3, 2.5, t)],
  ]);
const parameters = () =>
  new Map([
    ["a", start(6, 0.3)],
    ["b", start(3, 1.1)],
  ]);

function run(config: OptimizerInput, groups: ParameterGroup[] = []) {
  const values = parameters();
  const optimizer = createOptimizer(config, values, groups);
  for (let t = 0; t < 20; t++) optimizer.step(gradients(t), 1 - t / 20);
  return values;
}

const adamw: OptimizerInput = { type: "adamw", learningRate: 1e-2, weightDecay: 0.1, betas: [0.9, 0.98], eps: 1e-6 };
const momentum: OptimizerInput = { type: "sgd", learningRate: 1e-2, momentum: 0.9, weightDecay: 0.05 };

describe("equal to torch.optim after 20 steps, 1e-6 relative", () => {
  const groupB = [{ names: ["b"], learningRate: 1e-1, weightDecay: 0 }];
  test.each([
    ["adamw", adamw, groupB],
    ["adamwDefault", { type: "adamw", learningRate: 1e-3 }, []],
    ["sgd", { type: "sgd", learningRate: 1e-1 }, []],
    ["sgdMomentum", { ...momentum, dampening: 0.3 }, []],
    ["sgdNesterov", { ...momentum, nesterov: true }, []],
  ] as [keyof typeof golden, OptimizerInput, ParameterGroup[]][])("%s", (name, config, groups) => {
    const values = run(config, groups);
    for (const key of ["a", "b"] as const) {
      golden[name][key].forEach((expected, i) => {
        const relative = Math.abs(values.get(key)![i]! - expected) / Math.abs(expected);
        expect(relative, `${key}[${i}]`).toBeLessThan(1e-6);
      });
    }
  });
});

describe("state", () => {
  test.each([adamw, momentum])("saved in the middle and restored, the rest is bit-equal ($type)", (config) => {
    const whole = run(config);
    const values = parameters();
    const first = createOptimizer(config, values);
    for (let t = 0; t < 7; t++) first.step(gradients(t), 1 - t / 20);
    const saved = first.state();
    const savedValues = new Map(Array.from(values, ([name, tensor]) => [name, tensor.slice()]));
    first.step(gradients(7)); // what happens later must not reach the saved copies

    const resumed = createOptimizer(config, savedValues);
    resumed.restore(saved);
    expect(resumed.stepCount()).toBe(7);
    for (let t = 7; t < 20; t++) resumed.step(gradients(t), 1 - t / 20);
    expect(savedValues).toEqual(whole);
  });

  test("names are torch's, all moments lie in one array each", () => {
    const state = createOptimizer(adamw, parameters()).state();
    expect([...state.keys()]).toEqual(["step", "a.exp_avg", "a.exp_avg_sq", "b.exp_avg", "b.exp_avg_sq"]);
    expect([...createOptimizer({ type: "sgd", learningRate: 1 }, parameters()).state().keys()]).toEqual(["step"]);
  });

  test("a state that does not fit is refused whole, with all differences", () => {
    const optimizer = createOptimizer(adamw, parameters());
    const state = optimizer.state();
    state.set("step", new Float32Array([3]));
    state.set("a.exp_avg", new Float32Array([9, 9, 9, 9, 9, 9]));
    state.set("b.exp_avg", new Float32Array(4));
    state.delete("b.exp_avg_sq");
    state.set("c.exp_avg", new Float32Array(1));
    expect(() => optimizer.restore(state)).toThrow(
      expect.objectContaining({
        code: "OPTIMIZER_STATE_MISMATCH",
        details: {
          problems: [
            '"b.exp_avg" has 4 values instead of 3',
            '"b.exp_avg_sq" has no values instead of 3',
            '"c.exp_avg" is not known',
          ],
        },
      }),
    );
    expect(optimizer.state().get("a.exp_avg")).toEqual(new Float32Array(6));
    expect(optimizer.stepCount()).toBe(0);
  });
});

describe("refusals", () => {
  test("missing, extra and misshapen gradients change nothing", () => {
    const values = parameters();
    const optimizer = createOptimizer(adamw, values);
    const { a, b } = { a: gradient(6, 1, 1), b: gradient(3, 1, 1) };
    for (const wrong of [
      [["a", a]],
      [
        ["a", a],
        ["b", a],
      ],
      [
        ["a", a],
        ["b", b],
        ["c", b],
      ],
    ] as [string, Float32Array][][]) {
      expect(() => optimizer.step(new Map(wrong))).toThrow(expect.objectContaining({ code: "GRADIENT_MISMATCH" }));
    }
    expect(values).toEqual(parameters());
    expect(optimizer.stepCount()).toBe(0);
  });

  test("groups must name trained parameters once", () => {
    const group = { learningRate: 1, weightDecay: 0 };
    expect(() =>
      createOptimizer(adamw, parameters(), [
        { ...group, names: ["a", "x"] },
        { ...group, names: ["a"] },
      ]),
    ).toThrow(/"x" is not a trained parameter; "a" is in more than one group/);
  });

  test.each([
    { type: "adamw", learningRate: 0.1, weightDecay: 0.1 },
    { type: "sgd", learningRate: 0.1, weightDecay: 0.1 },
    { type: "sgd", learningRate: 0.1, momentum: 0.9 },
  ] as const)("held entries keep value and state, the others move as ever: %j", (config) => {
    const [free, some] = [parameters(), parameters()];
    const [all, part] = [createOptimizer(config, free), createOptimizer(config, some)];
    const held = new Map([["a", Uint8Array.of(0, 1, 0, 0, 1, 0)]]);
    for (let t = 1; t <= 3; t++) {
      all.step(gradients(t));
      part.step(gradients(t), 1, held);
    }
    const before = parameters();
    some.get("a")!.forEach((v, i) => {
      expect(v).toBe((held.get("a")![i] === 1 ? before : free).get("a")![i]);
    });
    expect(some.get("b")).toEqual(free.get("b"));
    for (const [name, state] of part.state()) if (name.startsWith("a.")) expect([state[1], state[4]]).toEqual([0, 0]);
  });

  test("configuration errors name the key", () => {
    const make = (config: object) => () => createOptimizer(config as OptimizerInput, parameters());
    expect(make({ type: "adamw", learningRate: 1, weight_decay: 1 })).toThrow(/did you mean "weightDecay"/);
    expect(make({ type: "sgd", learningRate: 1, nesterov: true })).toThrow(/nesterov needs momentum/);
    expect(make({ type: "adamw" })).toThrow(/learningRate: expected number, received nothing/);
  });
});

test("a tensor that is held as a whole goes on as if those steps had not been, also after restoring", () => {
  const config = { type: "adamw", learningRate: 0.1 } as const;
  const [plain, held] = [parameters(), parameters()];
  const [a, b] = [createOptimizer(config, plain), createOptimizer(config, held)];
  for (let t = 1; t <= 4; t++) a.step(gradients(t));
  const rest = new Map([["a", "all"] as const]);
  b.step(gradients(1));
  b.step(gradients(9), 1, rest);
  b.step(gradients(2));
  const again = createOptimizer(config, held);
  again.restore(b.state());
  again.step(gradients(9), 1, rest);
  again.step(gradients(3));
  again.step(gradients(4));
  expect(held.get("a")).toEqual(plain.get("a"));
  expect(held.get("b")).not.toEqual(plain.get("b"));
  expect(again.state().get("a.held_steps")).toEqual(Float32Array.of(2));
});
