import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { initialParameters } from "../../adapters/adapter.ts";
import { injectAdapter } from "../../adapters/inject.ts";
import { patternValue } from "../../adapters/targets.ts";
import { readSafetensors } from "../../formats/safetensors/read.ts";
import { crossEntropy } from "../../losses/cross-entropy.ts";
import { type LoraConfig, lora } from "../../methods/lora.ts";
import { readModel } from "../../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../../onnx/tensor.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { calibrateStart } from "./calibrate-start.ts";

/** Starts that peft made from batches on the BERT of the golden models; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../../parity/golden", import.meta.url));
const names = readdirSync(join(golden, "starts"))
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.slice(0, -5));

interface Made {
  readonly batches: number;
  readonly target_modules: string[];
  readonly config: {
    readonly r: number;
    readonly lora_alpha: number;
    readonly use_rslora: boolean;
    readonly rank_pattern: Record<string, number>;
    readonly init_lora_weights: LoraConfig["initLoraWeights"];
    readonly eva_config?: { rho: number; tau: number; whiten: boolean; adjust_scaling_factors: boolean };
    readonly lora_ga_config?: { direction: "ArB2r"; scale: "unit"; stable_gamma: number };
    readonly corda_config?: { corda_method: "ipm" | "kpm" };
  };
  readonly result: { readonly rank_pattern: Record<string, number>; readonly alpha_pattern: Record<string, number> };
}

const options = ({ config }: Made) => {
  const { eva_config: eva, lora_ga_config: ga, corda_config: corda } = config;
  return {
    r: config.r,
    alpha: config.lora_alpha,
    useRslora: config.use_rslora,
    rankPattern: config.rank_pattern,
    initLoraWeights: config.init_lora_weights,
    ...(eva
      ? {
          evaConfig: {
            ...lora.config.parse({}).evaConfig,
            rho: eva.rho,
            tau: eva.tau,
            whiten: eva.whiten,
            adjustScalingFactors: eva.adjust_scaling_factors,
          },
        }
      : {}),
    ...(ga ? { loraGaConfig: { direction: ga.direction, scale: ga.scale, stableGamma: ga.stable_gamma } } : {}),
    ...(corda ? { cordaConfig: { cordaMethod: corda.corda_method } } : {}),
  };
};

describe.each(names)("%s", (name) => {
  const made = JSON.parse(readFileSync(join(golden, "starts", `${name}.json`), "utf8")) as Made;
  const start = async () => {
    const { tensors } = await readSafetensors(join(golden, "starts", `${name}.safetensors`));
    const batches = Array.from(
      { length: made.batches },
      (_, i): Feeds =>
        Object.fromEntries(
          [...tensors]
            .filter(([key]) => key.startsWith(`batch.${i}.`))
            .map(([key, t]) => [
              key.slice(`batch.${i}.`.length),
              { type: "int64", dims: t.dims, data: BigInt64Array.from(toNumbers(t), BigInt) },
            ]),
        ),
    );
    const model = await readModel(join(golden, "models/bert/onnx/model_torchscript.onnx"));
    const config = { ...options(made), targetModules: made.target_modules };
    const found = await calibrateStart(model, {
      method: lora,
      config,
      batches: () => batches,
      loss({ g, outputs }) {
        return crossEntropy(g, { logits: outputs.get("logits")!, labels: g.input("labels", "int64", ["batch"]) });
      },
      isolation: "inline",
      threads: 1,
    });
    return { tensors, model, found };
  };

  test("factors are peft's, up to the sign of singular vectors", async () => {
    const { tensors, model, found } = await start();
    const adapted = injectAdapter(model, { method: lora, config: found.config });
    const values = initialParameters(adapted, 1, found.values);
    let worst = 0;
    for (const [key, tensor] of tensors) {
      const [, role, module] = /^([AB])\.(.*)$/.exec(key) ?? [];
      if (!role) continue;
      const expected = toFloat32Array(tensor);
      const own = values.get(`${module}.lora_${role}.weight`)!;
      expect(own?.length, key).toBe(expected.length);
      const [rows = 0, columns = 0] = tensor.dims;
      const [count, stride, step] = role === "A" ? [rows, columns, 1] : [columns, 1, columns];
      let [off, all] = [0, 0];
      for (let k = 0; k < count; k++) {
        const at = Array.from({ length: expected.length / count }, (_, i) => k * stride + i * step);
        const sign = Math.sign(at.reduce((sum, i) => sum + expected[i]! * own[i]!, 0));
        for (const i of at) {
          off += (expected[i]! - sign * own[i]!) ** 2;
          all += expected[i]! ** 2;
        }
      }
      worst = Math.max(worst, Math.sqrt(off / all));
    }
    expect(worst).toBeLessThan(1e-4);
    for (const site of adapted.plans.map((plan) => plan.site.name)) {
      for (const [own, theirs, usual] of [
        [found.config.rankPattern, made.result.rank_pattern, made.config.r],
        [found.config.alphaPattern, made.result.alpha_pattern, made.config.lora_alpha],
      ] as const) {
        expect(patternValue(own, site, usual), site).toBeCloseTo(patternValue(theirs, site, usual), 6);
      }
    }
  });
});
