/** Names of the outputs every training graph has. Apart from the makers of graphs: the process that trains loads only these. */
export const LOSS_SUM = "loss.sum";
export const LOSS_WEIGHT = "loss.weight";
export const gradientName = (parameter: string): string => `grad:${parameter}`;
