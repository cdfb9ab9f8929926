import { describe, expect, test } from "vitest";
import { z } from "zod";
import { createBuilder } from "../graph/builder.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { kaimingUniform, normal } from "../methods/init.ts";
import { defineMethod } from "../methods/method.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { rowLayout } from "./row-layout.ts";
import { tinyModel } from "./testing/tiny-model.ts";

/** LoRA whose update is multiplied by a number of each row. */
const weighed = defineMethod<object>({
  type: "WEIGHED",
  paper: null,
  kinds: ["linear"],
  identityAtStart: false,
  neutral: "empty",
  config: z.strictObject({}),
  defaultTargets: null,
  rowInputs: () => ({ branchWeight: { type: "float32", shape: [1] } }),
  parameters: (site) => ({
    A: { shape: [2, site.inFeatures], init: kaimingUniform(Math.sqrt(5)) },
    B: { shape: [site.outFeatures, 2], init: normal(0.5) },
  }),
  forward(g, { x, y, rows }, values) {
    const weight = rows["branchWeight"]!; // [batch, 1]
    const update = g.matMul(g.matMul(x, g.transpose(values["A"]!, [1, 0])), g.transpose(values["B"]!, [1, 0]));
    return g.add(y, g.mul(update, x.shape.length === 3 ? g.unsqueeze(weight, [2]) : weight));
  },
  delta: null,
  keys: { A: "A", B: "B" },
});

const tensor = (data: readonly number[], dims: readonly number[]): RuntimeTensor => ({
  type: "float32",
  dims,
  data: Float32Array.from(data),
});

describe("values per row", () => {
  test("reach modules on [batch, tokens, hidden] and on [batch * tokens, hidden]", async () => {
    const model = prepareModel(tinyModel());
    const adapted = injectAdapter(model, {
      method: weighed,
      config: { targetModules: "all-linear" },
    });
    adapted.g.output(adapted.outputs.get("hidden")!, "hidden");
    const session = await openBuilder(adapted.g);
    expect(session.inputNames).toContain("weighed.branch_weight");
    const values = initialParameters(adapted, 1);
    const random = testRandom(4);
    const ids = Array.from({ length: 15 }, () => Math.floor(random() * 11));
    const run = async (rows: readonly number[], weights: readonly number[]): Promise<Float32Array> => {
      const { hidden } = await session.run({
        ...Object.fromEntries(
          adapted.parameters.map((p) => [
            p.name,
            { type: "float32", dims: p.shape, data: values.get(p.name)! } as const,
          ]),
        ),
        input_ids: {
          type: "int64",
          dims: [rows.length, 5],
          data: BigInt64Array.from(
            rows.flatMap((row) => ids.slice(5 * row, 5 * row + 5)),
            BigInt,
          ),
        },
        "weighed.branch_weight": tensor(weights, [rows.length, 1]),
      });
      return hidden!.data as Float32Array;
    };
    const together = await run([0, 1, 2], [0, 0.5, 2]);
    const size = together.length / 3;
    for (const [row, weight] of [0, 0.5, 2].entries()) {
      const alone = await run([row], [weight]);
      const other = await run([row], [weight + 1]);
      const part = together.subarray(row * size, (row + 1) * size);
      part.forEach((v, i) => {
        expect(v).toBeCloseTo(alone[i]!, 5);
      });
      expect(Math.max(...part.map((v, i) => Math.abs(v - other[i]!)))).toBeGreaterThan(1e-2);
    }
    await session.close();
  });
});

describe("where the rows of a batch are", () => {
  const flattened = (perm: readonly number[]) => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["batch", "tokens", 4]);
    const turned = g.transpose(x, perm);
    const flat = g.op("Reshape", [turned, g.ints([-1, 4])])[0]!;
    return { g, flat: g.relu(g.add(flat, 1)) };
  };

  test("an axis of the batch's size, wherever it stands", () => {
    const g = createBuilder();
    expect(rowLayout(g, g.input("a", "float32", ["batch", "tokens", 4]), "batch")).toEqual({ axis: 0, perRow: 1 });
    expect(rowLayout(g, g.input("b", "float32", ["tokens", "batch", 4]), "batch")).toEqual({ axis: 1, perRow: 1 });
    expect(rowLayout(g, g.input("c", "float32", ["tokens", 4]), "batch")).toBeNull();
    expect(rowLayout(g, g.input("d", "float32", [4, 8]), 8)).toBeNull();
  });

  test("the outer part of a first axis, when the graph shows that it is the outer one", () => {
    const { g, flat } = flattened([0, 1, 2]);
    expect(flat.shape).toEqual(["batch*tokens", 4]);
    expect(rowLayout(g, flat, "batch")).toEqual({ axis: 0, perRow: "tokens" });
    const inner = flattened([1, 0, 2]);
    expect(inner.flat.shape).toEqual(["batch*tokens", 4]);
    expect(rowLayout(inner.g, inner.flat, "batch")).toBeNull();
  });
});
