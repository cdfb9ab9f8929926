import { expect, test } from "vitest";
import { claimsPage } from "./claims-page.ts";

const result = {
  ...{ id: "a-claim", paper: "2106.09685", statement: "It learns.", setup: "Two epochs." },
  ...{ figures: { accuracy: 0.123456, values: 12345, method: "LoRA" }, fingerprint: "0", machine: "2 cores" },
};

test("what was measured is shown, whether it holds or not", () => {
  const page = claimsPage([
    { ...result, holds: true },
    { ...result, id: "other", paper: null, holds: false, note: "Too small.", picture: "Curves." },
  ]);
  expect(page).toContain("2 claims, 1 of which hold.");
  expect(page).toContain("| [a-claim](#a-claim) | 2106.09685 | yes |");
  expect(page).toContain("| accuracy | 0.1235 |\n| values | 12,345 |\n| method | LoRA |\n\n**Holds.**\n");
  expect(page).toContain("![other](../bench/results/claims/other.png)\n\nCurves.\n\n");
  expect(page).toContain("**Does not hold here.** Too small.");
});
