import { rowInputName } from "../../adapters/row-inputs.ts";
import { parseAdapterConfig } from "../../adapters/select.ts";
import type { RuntimeTensor } from "../../runtime/runtime.ts";
import { methodOf } from "../registry.ts";
import type { TriedConfig } from "./configs/tried-config.ts";

/** Feeds for what a method reads per row: small whole numbers that differ from row to row. */
export function rowFeeds(
  { type, config }: Pick<TriedConfig, "type" | "config">,
  batch: number,
): Record<string, RuntimeTensor> {
  const method = methodOf(type);
  const inputs = method.rowInputs?.(parseAdapterConfig(method, config)) ?? {};
  return Object.fromEntries(
    Object.entries(inputs).map(([role, { type: element, shape }]) => {
      const size = shape.reduce((a, b) => a * b, batch);
      const data = Array.from({ length: size }, (_, i) => (i + 1) % 3);
      const dims = [batch, ...shape];
      const tensor: RuntimeTensor =
        element === "int64"
          ? { type: "int64", dims, data: BigInt64Array.from(data, BigInt) }
          : { type: "float32", dims, data: Float32Array.from(data) };
      return [rowInputName(method, role), tensor];
    }),
  );
}
