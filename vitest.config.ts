import { defineConfig } from "vitest/config";

const conditions = ["onnx-peft-source", "node", "import", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: [
      "packages/*/src/**/*.test.ts",
      "apps/*/src/**/*.test.ts",
      "bench/src/**/*.test.ts",
      "scripts/**/*.test.ts",
    ],
    pool: "forks",
    maxWorkers: 2,
    setupFiles: ["./scripts/recordings/collect.ts"],
    reporters: ["default", "./scripts/recordings/reporter.ts", "./scripts/vitest-summary.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
