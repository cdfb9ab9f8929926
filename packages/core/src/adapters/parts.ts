import { PeftError } from "../errors.ts";
import type { Method } from "../methods/method.ts";
import type { Model } from "../onnx/ir.ts";
import { type AdapterConfig, methodConfig, parseAdapterConfig } from "./select.ts";
import type { Site } from "./site.ts";
import { withBlocks } from "./with-blocks.ts";

/** A method at its own modules: all of an adapter, or one part of a composition. */
export interface AdapterPart {
  readonly method: Method;
  readonly config: AdapterConfig;
}

/**
 * The methods of an adapter: itself, or those that it is composed of. What is trained as a whole is the composition's.
 * @throws PeftError CONFIG_INVALID, PARTS, TARGETS_INVALID when modules are chosen for the composition
 */
export function adapterParts(method: Method, config: AdapterConfig): AdapterPart[] {
  const parts = method.parts?.(methodConfig(config));
  if (!parts) return [{ method, config }];
  const given = (["targetModules", "excludeModules", "layersToTransform", "layersPattern"] as const).find(
    (field) => config[field] !== undefined,
  );
  if (given) {
    throw new PeftError("TARGETS_INVALID", `${method.type} takes no ${given}: its parts choose their modules.`);
  }
  const { modulesToSave, taskType } = config;
  const whole = { ...(modulesToSave ? { modulesToSave } : {}), ...(taskType ? { taskType } : {}) };
  return parts.map((part) => ({
    method: part.method,
    config: parseAdapterConfig(part.method, { ...part.config, ...whole }),
  }));
}

/** Modules, and the blocks and tokens that an adapter's methods act at. */
export const sitesOf = (model: Model, modules: readonly Site[], method: Method, config: AdapterConfig): Site[] =>
  withBlocks(model, modules, { kinds: adapterParts(method, config).flatMap((part) => [...part.method.kinds]) });
