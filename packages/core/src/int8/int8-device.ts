import { PeftError } from "../errors.ts";
import type { Device } from "../runtime/device.ts";

/**
 * Refuses products in 8 bits on a GPU, where they would be no error and slow.
 * @throws PeftError CONFIG_INVALID
 */
export function requireInt8Device(device: Device = "cpu"): void {
  if (device === "cpu") return;
  throw new PeftError("CONFIG_INVALID", `expected compute "float32" on the device "${device}", received "int8".`, {
    hint: "Products in 8 bits (DynamicQuantizeMatMul) have kernels on the CPU only: a GPU would wait for it at every layer.",
  });
}
