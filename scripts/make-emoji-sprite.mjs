// Makes bench/data/emoji from npm package emoji-datasource-google (Noto images, Apache License 2.0), which is 74 MB:
//   npm pack emoji-datasource-google@16.0.0 && tar -xzf emoji-datasource-google-16.0.0.tgz
//   node scripts/make-emoji-sprite.mjs package
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

const [source = "package"] = process.argv.slice(2);
const target = fileURLToPath(new URL("../bench/data/emoji", import.meta.url));
const [SIZE, PITCH, COLUMNS] = [32, 34, 40];

/** Names as words: "flag", "o'clock" and "face" keep their letters, everything else parts words. */
const wordsOf = (name) =>
  name
    .normalize("NFD")
    .replace(/[\u0300-\u036f'’.]/g, "")
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== "")
    .join(" ");

const all = JSON.parse(await readFile(join(source, "emoji.json"), "utf8"));
const seen = new Set();
const kept = all
  .filter(({ category, has_img_google: hasImage }) => hasImage && category !== "Flags" && category !== "Component")
  .map((entry) => ({ ...entry, words: wordsOf(entry.name ?? entry.short_name) }))
  .filter(({ words }) => words !== "" && !seen.has(words) && seen.add(words))
  .sort((a, b) => a.sort_order - b.sort_order);

const sheet = await sharp(join(source, "img/google/sheets/32.png"))
  .ensureAlpha()
  .raw()
  .toBuffer({ resolveWithObject: true });
const rows = Math.ceil(kept.length / COLUMNS);
const [width, height] = [COLUMNS * SIZE, rows * SIZE];
const sprite = Buffer.alloc(width * height * 4);
kept.forEach(({ sheet_x: x, sheet_y: y }, i) => {
  for (let row = 0; row < SIZE; row++) {
    const from = ((y * PITCH + 1 + row) * sheet.info.width + x * PITCH + 1) * 4;
    const to = ((Math.floor(i / COLUMNS) * SIZE + row) * width + (i % COLUMNS) * SIZE) * 4;
    sheet.data.copy(sprite, to, from, from + SIZE * 4);
  }
});
await sharp(sprite, { raw: { width, height, channels: 4 } })
  .webp({ lossless: true, effort: 6 })
  .toFile(join(target, "sprite.webp"));
const lines = kept.map(({ words, category }) => JSON.stringify({ name: words, category }));
await writeFile(join(target, "names.jsonl"), `${lines.join("\n")}\n`);
process.stdout.write(`${kept.length} images, ${width} x ${height}\n`);
