import { claimOfStart } from "../claim-of-start.ts";

export const claim = claimOfStart({
  id: "eva-start",
  paper: "2410.07170",
  title: "EVA",
  statement:
    "Beginning in the directions that explain most of the data, with ranks given to the modules that need them, learns faster and ends at least as well as LoRA.",
  config: { initLoraWeights: "eva" },
});
