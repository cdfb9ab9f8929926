import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";

const FEATURES = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"];

/** The processor with those of its features that matter to matrix products. */
export function machineName(threads = 2): string {
  const info = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const flags = (/^flags.*$/m.exec(info)?.[0] ?? "").split(" ");
  const features = FEATURES.filter((feature) => flags.includes(feature));
  return `${cpus()[0]?.model ?? "unknown processor"} with ${features.join(", ")}, ${threads === 1 ? "one thread" : `${threads} threads`}`;
}
