import { claimOfStart } from "../claim-of-start.ts";

export const claim = claimOfStart({
  id: "corda-start",
  paper: "2406.05223",
  title: "CorDA",
  statement:
    "Beginning in the directions of the weight that matter most to the task's data, LoRA learns faster and ends at least as well.",
  config: { initLoraWeights: "corda" },
});
