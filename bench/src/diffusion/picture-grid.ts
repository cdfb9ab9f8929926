import sharp from "sharp";
import { IMAGE_SIZE } from "./emoji.ts";

const [GAP, MAGNIFIED] = [2, 3];

/** Pictures [3, size, size] in rows on white, each pixel three wide: a PNG file. */
export function pictureGrid(rows: readonly (readonly Float32Array[])[]): Promise<Buffer> {
  const pitch = IMAGE_SIZE + GAP;
  const [width, height] = [Math.max(...rows.map(({ length }) => length)) * pitch - GAP, rows.length * pitch - GAP];
  const bytes = Buffer.alloc(width * height * 3, 255);
  const plane = IMAGE_SIZE * IMAGE_SIZE;
  rows.forEach((pictures, row) => {
    pictures.forEach((picture, column) => {
      for (let at = 0; at < plane; at++) {
        const [y, x] = [row * pitch + Math.floor(at / IMAGE_SIZE), column * pitch + (at % IMAGE_SIZE)];
        for (let c = 0; c < 3; c++) {
          const value = Math.max(-1, Math.min(1, picture[c * plane + at] as number));
          bytes[(y * width + x) * 3 + c] = Math.round((value + 1) * 127.5);
        }
      }
    });
  });
  return sharp(bytes, { raw: { width, height, channels: 3 } })
    .resize(width * MAGNIFIED, height * MAGNIFIED, { kernel: "nearest" })
    .png({ compressionLevel: 9 })
    .toBuffer();
}
