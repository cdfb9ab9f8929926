import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { frozenSite } from "./operands.ts";
import { findSites } from "./sites.ts";

/** Exports of tiny models with their checkpoints; see parity/golden/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/models", import.meta.url));
const folders = existsSync(golden) ? readdirSync(golden).filter((f) => existsSync(join(golden, f, "onnx"))) : [];

test("there are golden exports", () => {
  expect(folders.length).toBeGreaterThanOrEqual(5);
});

describe.each(folders)("%s", (folder) => {
  const exports = readdirSync(join(golden, folder, "onnx")).filter((f) => f.endsWith(".onnx"));
  test.each(exports)("%s has the module names, shapes and weights of the checkpoint", async (file) => {
    const model = await readModel(join(golden, folder, "onnx", file));
    const { tensors } = await readSafetensors(join(golden, folder, "model.safetensors"));
    const sites = findSites(model);
    // "bert-model" shows the hidden states only, so its pooler is not in the file.
    const absent = folder === "bert-model" ? ["pooler.dense.weight"] : [];
    const weights = [...tensors].filter(([name]) => name.endsWith(".weight") && !absent.includes(name));
    const expected = weights.map(([name]) => name.slice(0, -".weight".length)).sort();
    const tied = sites.filter((s) => s.name === "lm_head").map((s) => s.name);
    expect(sites.map((s) => s.name).sort()).toEqual([...new Set([...expected, ...tied])].sort());
    for (const site of sites) {
      const frozen = frozenSite(model.graph, site);
      const weight = tensors.get(`${site.name}.weight`);
      const bias = tensors.get(`${site.name}.bias`);
      if (weight) {
        expect({ name: site.name, dims: site.weightShape }).toEqual({ name: site.name, dims: weight.dims });
        expect(frozen.weight()).toEqual(toFloat32Array(weight));
      }
      expect({ name: site.name, bias: site.hasBias }).toEqual({ name: site.name, bias: bias !== undefined });
      if (bias) expect(frozen.bias()).toEqual(toFloat32Array(bias));
    }
  });
});
