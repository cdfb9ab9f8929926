import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { namesIn, namingOf } from "./naming.ts";

/** Names that transformers 5 gives modules and checkpoints of tiny models; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden/names.json", import.meta.url));
const models: Readonly<Record<string, readonly string[]>> = JSON.parse(readFileSync(golden, "utf8")).models;

describe.each(Object.entries(models))("%s", (_, entries) => {
  const pairs = entries.map((entry) => entry.split(" = "));
  const [old, current] = [pairs.map(([a]) => a!), pairs.map(([a, b]) => b ?? a!)];

  test("names of modules and of hub checkpoints become each other", () => {
    expect(namesIn(current, "transformers-4")).toEqual(old);
    expect(namesIn(old, "transformers-5")).toEqual(current);
    expect(namesIn(old, "file")).toEqual(old);
  });

  test("names of the wanted generation stay", () => {
    expect(namesIn(old, "transformers-4")).toEqual(old);
    expect(namesIn(current, "transformers-5")).toEqual(current);
  });

  test("the generation of other names is found", () => {
    const isRenamed = old.some((name, i) => name !== current[i]);
    expect(namingOf(current, current)).toBe("file");
    expect(namingOf(current, old)).toBe(isRenamed ? "transformers-4" : "file");
    expect(namingOf(old, current)).toBe(isRenamed ? "transformers-5" : "file");
  });
});

test("a tower of CLIP by itself lost its prefix", () => {
  const [vision] = [["vision_model.embeddings.patch_embedding", "vision_model.encoder.layers.0.self_attn.out_proj"]];
  const bare = vision!.map((name) => name.slice("vision_model.".length));
  expect(namesIn(vision!, "transformers-5")).toEqual(bare);
  expect(namesIn(bare, "transformers-4")).toEqual(vision);
});

test("at least eight architectures were renamed", () => {
  expect(Object.values(models).filter((m) => m.some((e) => e.includes(" = "))).length).toBeGreaterThanOrEqual(8);
});
