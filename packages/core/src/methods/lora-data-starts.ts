import { PeftError } from "../errors.ts";
import type { Matrix } from "../linalg/matrix.ts";
import type { Calibration } from "./calibration.ts";
import { type CordaConfig, cordaStart } from "./corda.ts";
import { frozenMatrix } from "./dense.ts";
import { type EvaOptions, evaNeed, evaRanks, evaSettled, evaStart } from "./lora-eva.ts";
import { type LoraGaConfig, loraGaStart } from "./lora-ga.ts";
import type { ByRole, StartInput } from "./method.ts";

/** Starts of A and B that are made from data. */
export const dataStarts = ["eva", "lora_ga", "corda"] as const;

/** The part of LoRA's options that these starts look at. */
export interface DataStartOptions extends EvaOptions {
  readonly initLoraWeights: unknown;
  readonly loraGaConfig: LoraGaConfig;
  readonly cordaConfig: CordaConfig;
}

/** What LoRA's starts ask of the data. */
export const loraCalibration: Calibration<DataStartOptions> = {
  needs(config) {
    switch (config.initLoraWeights) {
      case "eva":
        return evaNeed(config);
      case "lora_ga":
        return { kind: "gradient", rank: 2 * config.r };
      case "corda":
        return { kind: "covariance" };
      default:
        return null;
    }
  },
  used: evaRanks,
  settle: evaSettled,
};

const floats = ({ data }: Matrix): Float32Array => Float32Array.from(data);

/**
 * A and B (of EVA A alone: B is zero) of a start from data.
 * @param scaling alpha / r
 * @throws PeftError START_NEEDS_DATA without data, RANK_TOO_LARGE
 */
export function startFromData(
  { site, config, frozen, random, data }: StartInput<DataStartOptions>,
  scaling: number,
): ByRole<Float32Array> {
  const { r, initLoraWeights } = config;
  const width = Math.min(site.inFeatures, site.outFeatures);
  const most = initLoraWeights === "eva" ? site.inFeatures : initLoraWeights === "lora_ga" ? width / 2 : width;
  if (r > most) {
    throw new PeftError(
      "RANK_TOO_LARGE",
      `The start "${initLoraWeights}" has ${Math.floor(most)} directions at most for "${site.name}" [${site.outFeatures}, ${site.inFeatures}], r is ${r}.`,
      { hint: "Lower r or set rankPattern for this module." },
    );
  }
  if (data?.components) return { A: evaStart(data.components, config) };
  const pair = data?.gradient
    ? loraGaStart(data.gradient, () => frozenMatrix(site, frozen), config.loraGaConfig, { r, scaling, random })
    : data?.covariance
      ? cordaStart(frozenMatrix(site, frozen), data.covariance, config.cordaConfig, { r, scaling })
      : null;
  if (!pair) {
    throw new PeftError("START_NEEDS_DATA", `The start "${initLoraWeights}" of "${site.name}" is made from data.`, {
      hint: "Make it with calibrateStart and hand its values to initialParameters; fineTune of a domain package does that.",
    });
  }
  return { A: floats(pair.A), B: floats(pair.B) };
}
