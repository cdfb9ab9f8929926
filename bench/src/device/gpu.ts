import { execFile, execFileSync } from "node:child_process";

const ask = (what: string): string[] => [`--query-gpu=${what}`, "--format=csv,noheader,nounits"];

/** Name and driver of the GPU, or null without nvidia-smi. */
export function gpuName(): string | null {
  try {
    const [name, driver] = execFileSync("nvidia-smi", ask("name,driver_version"), { encoding: "utf8" }).split(", ");
    return `${name?.trim()}, driver ${driver?.trim()}`;
  } catch {
    return null;
  }
}

/** MB of the GPU's memory that are taken, by all processes; NaN without nvidia-smi. */
const memoryInUse = (): Promise<number> =>
  new Promise((resolve) => {
    execFile("nvidia-smi", ask("memory.used"), (error, stdout) =>
      resolve(error ? Number.NaN : Number.parseFloat(stdout)),
    );
  });

/** Most MB of the GPU's memory taken while something runs, above what was taken before; looked at ten times a second. */
export async function withPeakMemory<T>(
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly peakMb: number }> {
  const before = await memoryInUse();
  let [isOver, peak] = [false, before];
  const watch = async (): Promise<void> => {
    while (!isOver) {
      peak = Math.max(peak, await memoryInUse());
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const watching = Number.isNaN(before) ? Promise.resolve() : watch();
  try {
    return { result: await work(), peakMb: peak - before };
  } finally {
    isOver = true;
    await watching;
  }
}
