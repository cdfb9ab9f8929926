import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compareWithGolden } from "../testing/golden-export.ts";

/** Files of Optimum's exporter and of transformers.js' conversion, with numbers of PyTorch; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/optimum", import.meta.url));
const files = readdirSync(golden).flatMap((name) =>
  readdirSync(join(golden, name)).flatMap((file) => (file.endsWith(".onnx") ? [`${name}/${file}`] : [])),
);

test.each(files.filter((file) => !/fp16|quantized|q4/.test(file)))(
  "%s: outputs, loss and gradients are PyTorch's",
  async (file) => {
    const { outputs, losses, gradients, missing } = await compareWithGolden(join(golden, file));
    expect(missing).toEqual([]);
    expect(outputs).toBeLessThan(1e-4);
    expect(losses["lora"]).toBeLessThan(1e-4);
    expect(gradients["lora"]).toBeLessThan(1e-4);
  },
);

test("the files are there", () => {
  expect(files.length).toBeGreaterThanOrEqual(15);
});
