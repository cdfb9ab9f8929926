import { expect, test } from "vitest";
import { freeMemory } from "./free-memory.ts";

const meminfo = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n";
const free = (files: Record<string, string>): number =>
  freeMemory(
    (path) => files[path] ?? null,
    () => 123,
  );

test("what Linux calls available, where there is no limit", () => {
  expect(free({ "/proc/meminfo": meminfo })).toBe(8_000_000 * 1024);
  expect(free({ "/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "max\n" })).toBe(
    8_000_000 * 1024,
  );
});

test("elsewhere what the system reports as free", () => {
  expect(free({})).toBe(123);
});

test("a limit of version 2, cached files count as free; the groups above count too", () => {
  const group = "/sys/fs/cgroup/work/job";
  const files = {
    "/proc/meminfo": meminfo,
    "/proc/self/cgroup": "0::/work/job\n",
    [`${group}/memory.max`]: "2000000000\n",
    [`${group}/memory.current`]: "900000000\n",
    [`${group}/memory.stat`]: "anon 5\ninactive_file 300000000\n",
  };
  expect(free(files)).toBe(1_400_000_000);
  const above = { "/sys/fs/cgroup/work/memory.max": "1000000000", "/sys/fs/cgroup/work/memory.current": "950000000" };
  expect(free({ ...files, ...above })).toBe(50_000_000);
});

test("a limit of version 1; its largest number is none", () => {
  const root = "/sys/fs/cgroup/memory";
  const files = {
    "/proc/meminfo": meminfo,
    "/proc/self/cgroup": "9:name=systemd:/\n4:memory:/box\n",
    [`${root}/box/memory.limit_in_bytes`]: "500000000",
    [`${root}/box/memory.usage_in_bytes`]: "600000000",
    [`${root}/memory.limit_in_bytes`]: "9223372036854771712",
    [`${root}/memory.usage_in_bytes`]: "1",
  };
  expect(free(files)).toBe(0);
  expect(free({ ...files, [`${root}/box/memory.stat`]: "total_inactive_file 250000000\n" })).toBe(150_000_000);
});
