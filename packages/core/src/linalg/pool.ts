import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { PeftError } from "../errors.ts";
import type { Matrix } from "./matrix.ts";
import { contentKey, type MatrixCache } from "./matrix-cache.ts";
import { type OperationName, type OperationResult, operations } from "./operations.ts";

export interface WorkerRequest {
  readonly id: number;
  readonly operation: OperationName;
  readonly matrix: Matrix;
}

export type WorkerResponse =
  | { readonly id: number; readonly parts: Matrix[] }
  | { readonly id: number; readonly error: { readonly code: string; readonly message: string } };

export interface LinalgPoolOptions {
  /** Threads; default: one for each processor, at most 4. Each holds a few copies of the matrix it works on. */
  readonly threads?: number;
  /** Where results are looked for first and kept. Default none. */
  readonly cache?: MatrixCache;
}

/** Threads for long decompositions; `close` ends them. */
export interface LinalgPool extends AsyncDisposable {
  /**
   * Runs a decomposition in a thread, or takes it from the cache; equal calls at the same time are computed once.
   * @throws PeftError as the decomposition; ABORTED; LINALG_WORKER when a thread ended by itself or the pool is closed
   */
  run<Name extends OperationName>(
    operation: Name,
    matrix: Matrix,
    options?: { readonly signal?: AbortSignal },
  ): Promise<OperationResult<Name>>;
  close(): Promise<void>;
}

interface Job {
  readonly request: WorkerRequest;
  readonly resolve: (parts: Matrix[]) => void;
  readonly reject: (error: unknown) => void;
}

/** The compiled thread; Node 20 cannot start one from a .ts file. */
function workerUrl(): URL {
  const own = import.meta.url;
  return new URL(own.endsWith(".ts") ? "../../dist/linalg/worker.js" : "./worker.js", own);
}

const gone = (why: string): PeftError => new PeftError("LINALG_WORKER", `a thread of the pool ended: ${why}.`);

/**
 * A pool of threads for decompositions of large matrices (SVD of every weight of a model), with an optional cache on disk. The
 * caller's event loop stays free. Threads start with the first job.
 *
 * @example
 * await using pool = createLinalgPool({ cache: createMatrixCache("cache") });
 * const factors = await Promise.all(weights.map((weight) => pool.run("svd", weight)));
 */
export function createLinalgPool(options: LinalgPoolOptions = {}): LinalgPool {
  const { threads = Math.min(4, availableParallelism()), cache } = options;
  if (!Number.isInteger(threads) || threads < 1) {
    throw new PeftError("LINALG_WORKER", `expected at least one thread, received ${threads}.`);
  }
  const idle: Worker[] = [];
  const busy = new Map<Worker, Job>();
  const waiting: Job[] = [];
  const running = new Map<string, Promise<Matrix[]>>();
  let closed = false;
  let nextId = 0;

  function start(): Worker {
    const worker = new Worker(workerUrl());
    worker.on("message", (response: WorkerResponse) => {
      const job = busy.get(worker);
      busy.delete(worker);
      idle.push(worker);
      if (job && "parts" in response) job.resolve(response.parts);
      else if (job && "error" in response) job.reject(new PeftError(response.error.code, response.error.message));
      advance();
    });
    const end = (error: PeftError): void => {
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
      busy.get(worker)?.reject(error);
      busy.delete(worker);
      if (!closed) advance();
    };
    worker.on("error", (cause) => end(gone(cause instanceof Error ? cause.message : String(cause))));
    worker.on("exit", (code) => end(gone(`exit code ${code}`)));
    return worker;
  }

  function advance(): void {
    while (waiting.length > 0 && (idle.length > 0 || busy.size < threads)) {
      const job = waiting.shift();
      if (!job) return;
      const worker = idle.pop() ?? start();
      busy.set(worker, job);
      worker.postMessage(job.request);
    }
    // A thread without work does not keep the process alive.
    for (const worker of idle) worker.unref();
    for (const worker of busy.keys()) worker.ref();
  }

  function compute(operation: OperationName, matrix: Matrix, signal: AbortSignal | undefined): Promise<Matrix[]> {
    return new Promise((resolve, reject) => {
      const job: Job = { request: { id: nextId++, operation, matrix }, resolve, reject };
      signal?.addEventListener(
        "abort",
        () => {
          const at = waiting.indexOf(job);
          if (at >= 0) waiting.splice(at, 1);
          for (const [worker, own] of busy) if (own === job) void worker.terminate(); // the only way to stop a loop
          reject(new PeftError("ABORTED", `the ${operation} was aborted.`, { cause: signal.reason }));
        },
        { once: true },
      );
      waiting.push(job);
      advance();
    });
  }

  async function partsOf(operation: OperationName, matrix: Matrix, signal?: AbortSignal): Promise<Matrix[]> {
    if (!cache) return compute(operation, matrix, signal);
    const key = contentKey(operation, matrix);
    const known = signal ? undefined : running.get(key); // what can be aborted is nobody else's
    if (known) return known;
    const work = (async () => {
      const found = await cache.get(key);
      if (found) return found;
      const parts = await compute(operation, matrix, signal);
      await cache.set(key, parts);
      return parts;
    })();
    running.set(key, work);
    try {
      return await work;
    } finally {
      running.delete(key);
    }
  }

  async function close(): Promise<void> {
    closed = true;
    for (const { reject } of waiting.splice(0)) reject(gone("the pool was closed"));
    await Promise.all([...idle, ...busy.keys()].map((worker) => worker.terminate()));
  }

  return {
    async run(operation, matrix, { signal } = {}) {
      if (closed) throw gone("the pool was closed");
      if (signal?.aborted) throw new PeftError("ABORTED", `the ${operation} was aborted.`, { cause: signal.reason });
      const parts = await partsOf(operation, matrix, signal);
      return operations[operation].unpack(parts) as OperationResult<typeof operation>;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
