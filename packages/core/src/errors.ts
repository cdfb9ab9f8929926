const marker = Symbol.for("onnx-peft.error");

/** Options of {@link PeftError}. */
export interface PeftErrorOptions {
  /** What to do about it, one sentence. */
  hint?: string;
  /** Machine-readable facts: names, shapes, limits. */
  details?: Record<string, unknown>;
  cause?: unknown;
}

/**
 * Every error this project raises on purpose. `code` is stable and upper-case; `message` says what was expected, what was
 * received and where; `hint` says what to do.
 *
 * @example
 * throw new PeftError("RANK_TOO_LARGE", 'LoRA rank 900 exceeds 768 at "encoder.layer.0".', { hint: "Lower r." });
 */
export class PeftError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly details: Record<string, unknown>;
  readonly [marker] = true;

  constructor(code: string, message: string, options: PeftErrorOptions = {}) {
    super(options.hint ? `${message} ${options.hint}` : message, { cause: options.cause });
    this.name = "PeftError";
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }

  /** True for errors of this class, also when the package is installed twice. */
  static isInstance(error: unknown): error is PeftError {
    return typeof error === "object" && error !== null && marker in error;
  }
}
