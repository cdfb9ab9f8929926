import { methodOf } from "../../methods/registry.ts";
import { startValues } from "../../methods/testing/start-values.ts";
import type { Model } from "../../onnx/ir.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import { type Adapter, adapterOf } from "../adapter.ts";
import { injectAdapter } from "../inject.ts";
import type { AdapterConfigInput } from "../select.ts";

/** An adapter of a model whose trained tensors were moved from their start at random: what training does. */
export function movedAdapter(
  model: Model,
  type: string,
  config: Readonly<Record<string, unknown>>,
  seed: number,
  noise = 0.3,
): Adapter {
  const method = methodOf(type);
  const adapted = injectAdapter(model, { method, config: config as AdapterConfigInput });
  const random = testRandom(seed);
  const values = startValues(adapted, seed);
  for (const { name, trainable } of adapted.parameters) {
    const data = values.get(name);
    if (trainable && data) for (let i = 0; i < data.length; i++) data[i] = data[i]! + noise * (random() * 2 - 1);
  }
  return adapterOf(adapted, values);
}
