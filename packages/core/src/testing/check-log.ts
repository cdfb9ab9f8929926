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

type Listener = (check: GradientCheck) => void;

const listeners = new Set<Listener>();

/** Calls `listener` after every gradient check that passes, until the returned function is called. */
export function onGradientCheck(listener: Listener): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

/** Tells the listeners about a check that passed. */
export function reportGradientCheck(check: GradientCheck): void {
  for (const listener of listeners) listener(check);
}
