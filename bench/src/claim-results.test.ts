import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import type { Claim } from "./claim.ts";
import { claimFingerprint, claimResults, openClaims, readClaim, readClaims } from "./claim-results.ts";

// Open claims are named on docs/claims.md (scripts/docs/generated-files.test.ts), so that none is silently missing there.
test.each(readClaims().map(({ id }) => id))("%s was run as it stands", async (name) => {
  const { claim } = (await import(`./claims/${name}.ts`)) as { claim: Claim };
  const { run, ...about } = claim;
  expect(about.id).toBe(name);
  const result = readClaim(name);
  expect(result, `npm run claims -- ${name}`).not.toBeNull();
  expect(result).toMatchObject(about);
  expect(result?.fingerprint, `${name} has changed since: npm run claims -- ${name}`).toBe(claimFingerprint(name));
  for (const figure of Object.values(result!.figures)) if (typeof figure === "number") expect(figure).not.toBeNaN();
});

test.each(openClaims())("%s says what it is about", async (name) => {
  const { claim } = (await import(`./claims/${name}.ts`)) as { claim: Claim };
  expect(claim).toMatchObject({ id: name, statement: expect.any(String), setup: expect.any(String) });
});

test("every file is a result of a claim, or the picture of one that has a picture", () => {
  const expected = readClaims().flatMap(({ id, picture }) => [`${id}.json`, ...(picture ? [`${id}.png`] : [])]);
  expect(readdirSync(claimResults).sort()).toEqual(expected.sort());
});
