import { claimOfStart } from "../claim-of-start.ts";

export const claim = claimOfStart({
  id: "lora-ga-start",
  paper: "2407.05000",
  title: "LoRA-GA",
  statement:
    "Beginning along the singular directions of the full gradient, LoRA reaches a given loss in a half to a quarter of the steps.",
  config: { initLoraWeights: "lora_ga" },
});
