import type { ParameterGroup } from "./optimizer-config.ts";

export interface LoraPlusOptions {
  /** Learning rate of the A matrices. */
  learningRate: number;
  /** Learning rate of the B matrices divided by that of A. */
  ratio?: number;
  /** Learning rate of LoRA on embeddings. */
  embeddingLearningRate?: number;
  /** Weight decay of matrices; vectors are never decayed. */
  weightDecay?: number;
}

/**
 * Parameter groups of LoRA+ (Hayou et al., arXiv 2402.12354): B learns `ratio` times faster than A. Order of the rules as in
 * peft: LoRA on embeddings first, then everything called `lora_B` and every vector (biases, norms), then the rest.
 *
 * @param parameters every trained parameter with its shape.
 * @param options ratio 16, embeddingLearningRate 1e-6 and weightDecay 0 by default.
 * @returns groups for `createOptimizer`; empty ones are left out.
 * @example
 * createOptimizer(config, tensors, loraPlusGroups(shapes, { learningRate: 1e-4 }));
 */
export function loraPlusGroups(
  parameters: Iterable<{ name: string; shape: readonly number[] }>,
  { learningRate, ratio = 16, embeddingLearningRate = 1e-6, weightDecay = 0 }: LoraPlusOptions,
): ParameterGroup[] {
  const embedding: ParameterGroup = { names: [], learningRate: embeddingLearningRate, weightDecay };
  const fast: ParameterGroup = { names: [], learningRate: learningRate * ratio, weightDecay };
  const fastVectors: ParameterGroup = { names: [], learningRate: learningRate * ratio, weightDecay: 0 };
  const rest: ParameterGroup = { names: [], learningRate, weightDecay };
  for (const { name, shape } of parameters) {
    if (name.includes("lora_embedding_")) embedding.names.push(name);
    else if (shape.length === 1) fastVectors.names.push(name);
    else if (name.includes("lora_B")) fast.names.push(name);
    else rest.names.push(name);
  }
  return [embedding, fast, fastVectors, rest].filter((group) => group.names.length > 0);
}
