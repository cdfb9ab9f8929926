import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Placement, placementIn } from "./placement.ts";
import type { RuntimeSession } from "./runtime.ts";

interface ProfiledSession extends RuntimeSession {
  endProfiling(): void;
}

/**
 * A session that says after its first run where its nodes ran. That run is profiled, into a temporary folder.
 * @param open is given the prefix of the profile's path.
 */
export async function observePlacement(open: (profile: string) => Promise<ProfiledSession>): Promise<RuntimeSession> {
  const folder = await mkdtemp(join(tmpdir(), "onnx-peft-placement-"));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const { endProfiling, run, close, ...names } = await open(join(folder, "first-run"));
    let placement: Placement | undefined;
    const readProfile = async (): Promise<Placement> => {
      endProfiling();
      const [file = ""] = await readdir(folder);
      return placementIn(await readFile(join(folder, file), "utf8"));
    };
    return {
      ...names,
      get placement() {
        return placement;
      },
      async run(feeds, outputs) {
        const results = await run(feeds, outputs);
        placement ??= await readProfile();
        return results;
      },
      async close() {
        await close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}
