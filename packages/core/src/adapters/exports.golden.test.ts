import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compareWithGolden } from "../testing/golden-export.ts";

/** Exports of many architectures with PyTorch's outputs, losses and gradients; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/exports", import.meta.url));
const files = readdirSync(golden).flatMap((name) =>
  readdirSync(join(golden, name)).flatMap((file) => (file.endsWith(".onnx") ? [`${name}/${file}`] : [])),
);

test.each(files)("%s: outputs, loss and gradients are PyTorch's", async (file) => {
  const { outputs, losses, gradients, missing } = await compareWithGolden(join(golden, file));
  expect(missing).toEqual([]);
  expect(outputs).toBeLessThan(1e-4);
  expect(Object.keys(losses).length).toBeGreaterThan(0);
  for (const loss of Object.values(losses)) expect(loss).toBeLessThan(1e-4);
  for (const gradient of Object.values(gradients)) expect(gradient).toBeLessThan(1e-4);
});

test("the exports are there", () => {
  expect(files.length).toBeGreaterThanOrEqual(21);
});
