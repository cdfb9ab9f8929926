/** A gradient check that passed: which operators lay between the inputs and the outputs, and what was compared. */
export interface GradientCheck {
  /** Keys of operators, the domain before "::" unless it is ONNX's own. */
  readonly operators: readonly string[];
  readonly opset: number;
  /**
   * "static" or "symbolic" shapes against finite differences; "points": values at chosen points against PyTorch's or
   * against numbers worked out by hand, where finite differences do not exist.
   */
  readonly against: "static" | "symbolic" | "points";
  /** Every entry of the Jacobian's pull-back was compared, not only random directions. */
  readonly entries: boolean;
  /** One input was frozen. */
  readonly frozen: boolean;
}

/** Entries that tests leave for those who listen. */
export interface Log<T> {
  /** Calls `listener` with every entry, until the returned function is called. */
  on(listener: (entry: T) => void): () => void;
  report(entry: T): void;
}

export function createLog<T>(): Log<T> {
  const listeners = new Set<(entry: T) => void>();
  return {
    on(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
    report(entry) {
      for (const listener of listeners) listener(entry);
    },
  };
}

const gradientLog = createLog<GradientCheck>();

/** Calls `listener` after every gradient check that passes, until the returned function is called. */
export const onGradientCheck = gradientLog.on;

/** Tells the listeners about a check that passed. */
export const reportGradientCheck = gradientLog.report;
