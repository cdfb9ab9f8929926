import { afterAll, describe, expect, test } from "vitest";
import { injectAdapter } from "../../../adapters/inject.ts";
import type { AdapterConfigInput } from "../../../adapters/select.ts";
import { methodOf } from "../../registry.ts";
import type { TriedConfig } from "../configs/tried-config.ts";
import { triedConfigs } from "../configs.ts";
import type { GroundName } from "../ground-names.ts";
import { type Ground, groundOf } from "../grounds.ts";
import { capabilities, type Refusal } from "./capabilities.ts";
import { type BehaviourCheck, behaviourLog } from "./log.ts";
import { configOn, createTrial, modulesOf, reasonOn, targetsOn } from "./trial.ts";

const titleOf = ({ type, variant }: TriedConfig): string => (variant ? `${type}, ${variant}` : type);

async function expectRefusal(attempt: () => unknown, { code, reason }: Refusal): Promise<void> {
  await expect(async () => attempt()).rejects.toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(reason) }),
  );
}

/** How a configuration must be refused on a ground that has no module for it; null where it has. */
function refusalOn(ground: Ground, tried: TriedConfig): Refusal | null {
  const known = tried.refusedOn?.[ground.name];
  if (known) return known;
  if (targetsOn(ground, tried).length > 0) return null;
  // Methods that adapt the model as a whole cannot be told which modules.
  const { wholeModel, kinds } = methodOf(tried.type);
  if (wholeModel) return { code: "TARGETS_NOT_FOUND", reason: `no site of kind ${kinds.join(" and ")}` };
  return { code: "TARGETS_UNSUITABLE", reason: reasonOn(ground, tried) };
}

/** The configuration with every module of the ground as a target. */
function everywhere(ground: Ground, tried: TriedConfig): AdapterConfigInput {
  const { modulesToSave: _, ...config } = configOn(ground, tried);
  const { wholeModel, parts } = methodOf(tried.type);
  if (wholeModel || parts) return config;
  return { ...config, targetModules: modulesOf(ground, tried).map((site) => site.name) };
}

/**
 * Registers the tests of one ground: every tried configuration of every method with every capability; what is not declared must be refused
 * for the reason that the method gives. Results are logged for docs/methods.md.
 */
export function behaviourMatrix(name: GroundName): void {
  const ground = groundOf(name);
  describe.each(triedConfigs.map((tried) => [titleOf(tried), tried] as const))("%s", (_, tried) => {
    const record = (capability: string, result: string): void => {
      const check: BehaviourCheck = {
        method: tried.type,
        variant: tried.variant ?? "",
        ground: name,
        capability,
        result,
      };
      behaviourLog.report(check);
    };
    const refusal = refusalOn(ground, tried);
    if (refusal) {
      test(`is refused: ${refusal.code}`, async () => {
        const config = everywhere(ground, tried);
        await expectRefusal(() => injectAdapter(ground.model, { method: methodOf(tried.type), config }), refusal);
        record("modules", refusal.code);
      });
      return;
    }
    const trial = createTrial(ground, tried);
    afterAll(trial.close);
    for (const { name: capability, applies, refusal: refusalOf, check } of capabilities) {
      if (applies?.(trial) === false) continue;
      test(capability, async () => {
        const expected = refusalOf?.(trial) ?? null;
        if (expected === null) record(capability, (await check(trial)) ?? "yes");
        else {
          await expectRefusal(() => check(trial), expected);
          record(capability, expected.code);
        }
      });
    }
  });
}
