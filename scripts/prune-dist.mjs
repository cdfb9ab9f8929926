// Deletes compiled files whose source is gone, so that they are not packed. Runs in a package's folder before `npm pack`.
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join, relative } from "node:path";

if (!existsSync("dist")) {
  console.error("There is nothing to pack: run `npm run build` first.");
  process.exit(1);
}
for (const entry of readdirSync("dist", { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const file = join(entry.parentPath ?? entry.path, entry.name);
  const compiled = /^(.*?)(\.d\.ts|\.js)(\.map)?$/.exec(relative("dist", file));
  if (compiled && !existsSync(join("src", `${compiled[1]}.ts`))) rmSync(file);
}
