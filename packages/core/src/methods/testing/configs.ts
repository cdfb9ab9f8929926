import { lowRankConfigs } from "./configs/low-rank.ts";
import { moduleConfigs } from "./configs/modules.ts";
import { siteConfigs } from "./configs/sites.ts";
import type { TriedConfig } from "./configs/tried-config.ts";
import { weightConfigs } from "./configs/weights.ts";

/** What the behaviour matrix tries. A method that is missing here fails. */
export const triedConfigs: readonly TriedConfig[] = [
  ...lowRankConfigs,
  ...weightConfigs,
  ...moduleConfigs,
  ...siteConfigs,
];
