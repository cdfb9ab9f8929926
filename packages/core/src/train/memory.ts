import { readFileSync } from "node:fs";

/**
 * Highest resident memory of this process in bytes. Linux's getrusage counts what the parent had at the time of the
 * fork, so the kernel's own mark for this process is read where there is one.
 */
export function peakRss(): number {
  try {
    const match = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
    if (match) return Number(match[1]) * 1024;
  } catch {
    // No /proc: not Linux.
  }
  return process.resourceUsage().maxRSS * 1024;
}
