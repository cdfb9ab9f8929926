/** One to four random damages: a byte, a 32-bit number, a cut, a copy of a part, a removed part, swapped parts. */
export function mutate(bytes: Uint8Array, random: () => number): Uint8Array {
  let out = Uint8Array.from(bytes);
  const below = (limit: number): number => Math.floor(random() * Math.max(1, limit));
  for (let times = 1 + below(4); times > 0; times--) {
    const at = below(out.length);
    const length = 1 + below(Math.min(32, out.length - at));
    switch (below(6)) {
      case 0:
        out[at] = below(256);
        break;
      case 1: {
        const odd = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, out.length, out.length - at, 8][below(8)] ?? 0;
        if (at + 4 <= out.length) new DataView(out.buffer, out.byteOffset).setUint32(at, odd, true);
        break;
      }
      case 2:
        out = out.slice(0, at);
        break;
      case 3:
        out = Uint8Array.from([...out.slice(0, at + length), ...out.slice(at)]);
        break;
      case 4:
        out = Uint8Array.from([...out.slice(0, at), ...out.slice(at + length)]);
        break;
      default: {
        const other = below(out.length - length);
        const part = out.slice(other, other + length);
        out.copyWithin(other, at, at + length);
        out.set(part.slice(0, out.length - at), at);
      }
    }
  }
  return out;
}
