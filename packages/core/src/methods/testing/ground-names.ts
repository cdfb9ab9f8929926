/** The models on which every method is tried; apart from how they are made, as every test file reads these names. */
export const groundNames = ["MLP", "transformer block", "convolution", "embedding", "experts"] as const;
export type GroundName = (typeof groundNames)[number];
