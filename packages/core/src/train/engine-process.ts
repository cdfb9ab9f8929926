import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PeftError } from "../errors.ts";
import type { EngineSetup } from "./engine.ts";
import { type FileEngine, readParameters, writeParameters } from "./engine-files.ts";
import type { EngineCallName, EngineCalls, EngineResponse, OpenRequest, SerializedError } from "./engine-protocol.ts";
import type { GraphFile, GraphPath } from "./graph-file.ts";

/**
 * The compiled child. Tests and tools that run from the TypeScript sources use the build too: Node 20 cannot start a
 * process from a .ts file.
 */
function childPath(): string {
  const own = import.meta.url;
  return fileURLToPath(new URL(own.endsWith(".ts") ? "../../dist/train/engine-child.js" : "./engine-child.js", own));
}

/**
 * An engine in a process of its own. ONNX Runtime's `run` blocks its thread and an abort inside it ends its process;
 * here neither touches the caller: the event loop stays free, and a crash is a rejected promise with code
 * ENGINE_CRASHED. Memory is that process's own and is given back when it ends. Graphs and parameters travel as files in a
 * temporary folder, batches and losses as messages. The child ends with its parent, at the latest after the
 * micro-batch it is in.
 *
 * @throws PeftError as `createEngine`; ENGINE_CRASHED from every call once the process is gone.
 * @example
 * const engine = await createEngineProcess({ training, parameters, optimizer, seed: 42 });
 * try { await engine.step({ step: 0, runs: [feeds], learningRateScale: 1 }); } finally { await engine.close(); }
 */
export async function createEngineProcess(
  setup: EngineSetup<GraphFile>,
): Promise<FileEngine & { readonly pid: number }> {
  const exchangeFolder = await mkdtemp(join(tmpdir(), "onnx-peft-"));
  const removeFolder = (): Promise<void> => rm(exchangeFolder, { recursive: true, force: true });
  try {
    const { child, call, end, whenGone } = start(setup.device === "cuda" ? FLOAT32 : {});
    try {
      // The process comes up while its files are written.
      await call("open", await layOut(setup, exchangeFolder));
    } catch (error) {
      child.kill("SIGKILL");
      await whenGone;
      throw error;
    }
    const close = async (): Promise<void> => {
      try {
        await call("close", null);
      } catch (error) {
        // A process that is gone already is what was asked for.
        if (!PeftError.isInstance(error) || error.code !== "ENGINE_CRASHED") throw error;
      } finally {
        end(new PeftError("ENGINE", "expected an open engine, received a call after close()."));
        if (child.connected) child.disconnect();
        await whenGone;
        await removeFolder();
      }
    };
    let closing: Promise<void> | undefined;
    return {
      pid: child.pid ?? -1,
      step: (argument) => call("step", argument),
      evaluate: (feeds) => call("evaluate", feeds),
      keepBest: async (names) => void (await call("keepBest", names ?? null)),
      async bestParameters() {
        const path = join(exchangeFolder, "best.safetensors");
        await call("bestParameters", path);
        const read = await readParameters(path);
        return Object.fromEntries(
          Object.keys(setup.parameters).flatMap((name) => (read[name] ? [[name, read[name]]] : [])),
        );
      },
      save: async (folder) => void (await call("save", folder)),
      restore: async (folder) => void (await call("restore", folder)),
      close() {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    await removeFolder();
    throw error;
  }
}

/**
 * Puts what may be large into files. As a message a graph with weights inside would block the caller while it is copied,
 * and be held twice by the child.
 */
async function layOut(setup: EngineSetup<GraphFile>, folder: string): Promise<OpenRequest> {
  const { parameters, training, evaluation, ...rest } = setup;
  const place = async ({ bytes, ...rest }: GraphFile, name: string): Promise<GraphPath> => {
    const path = join(folder, name);
    await writeFile(path, bytes);
    return { path, ...rest };
  };
  const parametersPath = join(folder, "parameters.safetensors");
  await writeParameters(parametersPath, parameters);
  return {
    setup: {
      ...rest,
      ...(training ? { training: { ...training, graph: await place(training.graph, "training.onnx") } } : {}),
      ...(evaluation ? { evaluation: { ...evaluation, graph: await place(evaluation.graph, "evaluation.onnx") } } : {}),
    },
    parametersPath,
    exchangeFolder: folder,
  };
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** CUDA's libraries round float32 products to TF32 unless this says otherwise; whoever wants that sets it to 1. */
const FLOAT32 = { NVIDIA_TF32_OVERRIDE: "0" } as const;

/** Starts the child and keeps the book of open calls. */
function start(environment: Readonly<Record<string, string>>) {
  const child = fork(childPath(), [], {
    serialization: "advanced",
    execArgv: [],
    env: { ...environment, ...process.env },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const waiting = new Map<number, Waiting>();
  const lastWords = collectStderr(child);
  let next = 0;
  let ended: PeftError | undefined;
  const end = (error: PeftError): void => {
    ended ??= error;
    for (const { reject } of waiting.values()) reject(ended);
    waiting.clear();
  };
  child.on("message", (message: EngineResponse) => {
    const caller = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.ok) caller?.resolve(message.result);
    else caller?.reject(revive(message.error));
  });
  // What it wrote last must have arrived. (Its "close" event says both, but does not come after disconnect().)
  const stderrEnded = new Promise<void>((resolve) => child.stderr?.once("close", () => resolve()));
  const whenGone = new Promise<void>((resolve) => {
    child.once("exit", async (code, signal) => {
      await stderrEnded;
      const how = signal ?? `exit code ${code}`;
      end(
        new PeftError("ENGINE_CRASHED", `The training process ended (${how}) before it answered.${lastWords()}`, {
          hint: "If the system was short of memory, lower the micro-batch size; the last checkpoint can be resumed.",
          details: { exitCode: code, signal },
        }),
      );
      resolve();
    });
    child.on("error", (cause) => {
      if (child.pid !== undefined) return; // It runs: a failed message or signal, and "exit" follows.
      end(new PeftError("ENGINE_CRASHED", `The training process could not be started: ${cause.message}.`, { cause }));
      resolve();
    });
  });
  const call = <K extends EngineCallName>(
    name: K,
    argument: EngineCalls[K]["argument"],
  ): Promise<EngineCalls[K]["result"]> =>
    new Promise((resolve, reject) => {
      if (ended) {
        reject(ended);
        return;
      }
      const id = next++;
      waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
      child.send({ id, call: name, argument }, (error) => {
        // A channel that no longer takes messages belongs to a dying process: make sure that "exit" comes.
        if (error) child.kill("SIGKILL");
      });
    });
  return { child, call, end, whenGone };
}

/** The end of what the child wrote to its error stream, for the crash report. */
function collectStderr(child: ChildProcess): () => string {
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-2000);
  });
  return () => (text === "" ? "" : ` It said: ${text.trim()}`);
}

function revive({ code, message, details }: SerializedError): Error {
  return code === null ? new Error(message) : new PeftError(code, message, { details });
}
