import { expect } from "vitest";
import { createMixedSet, makeMixedSwappable } from "../../../adapters/mixed-set.ts";
import { encodeModel } from "../../../onnx/write.ts";
import { onnxruntimeNode } from "../../../runtime/onnxruntime-node.ts";
import { close, differ, type Trial } from "./trial.ts";

const rows = ["a", "__base__", "b", "a", "b"];

/** Another adapter for each row of a batch, the base included: every row is as in a batch of its adapter alone. */
export async function checkMixedBatch(trial: Trial, seeds: readonly [number, number]): Promise<void> {
  const { ground, method, config, trained } = trial;
  const mixed = makeMixedSwappable(ground.model, { method, config, wantedOutputs: ["logits"], places: 2 });
  const batch = trial.batch(rows.length);
  const set = createMixedSet(mixed);
  const whole: Record<string, Float32Array> = {
    __base__: await trial.runModel(ground.model, ground.batch(rows.length)),
  };
  for (const [i, name] of ["a", "b"].entries()) {
    const seed = seeds[i] as number;
    set.add(name, trained(seed));
    whole[name] = await trial.runAdapted(trial.moved(seed), batch);
  }
  const session = await onnxruntimeNode.open(encodeModel(mixed.model), { threads: 1 });
  const { logits } = await session.run({ ...batch, ...set.feeds(rows) }, ["logits"]);
  await session.close();
  const found = logits?.data as Float32Array;
  const row = (data: Float32Array | undefined, i: number): Float32Array => (data ?? found).slice(i * 3, (i + 1) * 3);
  for (const [i, name] of rows.entries()) close(row(found, i), row(whole[name], i), 1e-5);
  differ(whole["a"] ?? found, whole["b"] ?? found);
  expect(set.names).toEqual(["a", "b"]);
}
