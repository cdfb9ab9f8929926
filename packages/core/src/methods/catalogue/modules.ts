import type { MethodEntry } from "./entry.ts";

/** Modules and tokens beside the model, routers, compositions. */
export const moduleEntries: Readonly<Record<string, MethodEntry>> = {
  BOTTLENECK: {
    title: "Bottleneck adapters (Houlsby, Pfeiffer, parallel)",
    parameters: "2 b in, 2 b out or b (in + out); at a branch 2 b d + b + d",
    use: 'Where a change of weights is too little: a narrow network of its own behind attention and feed-forward (`placement: "houlsby"`), behind feed-forward (`"pfeiffer"`), beside it (`"pfeifferParallel"`), or at any single linear module. Beside feed-forward is the strongest place in the comparisons of He et al.',
    avoid:
      'Where the adapted model must be as fast as the base: nothing merges, unless `nonLinearity` is "identity". The defaults of the sources do not start at the identity; `initWeights: "mam_adapter"` does.',
    cost: 'Two thin products and a non-linearity per place; "pfeiffer" applies the layer\'s norm once more. Gradients pass through the whole branch, as with LoRA.',
    source:
      "Houlsby et al. 2019; Pfeiffer et al. 2005.00247, He et al. 2110.04366, LLM-Adapters 2304.01933; names of AdapterHub. A file format of this project, with the keys of LLM-Adapters.",
  },
  COMPACTER: {
    title: "Compacter",
    parameters: "2 n r (d/n + b/n) + b + d, and n³ once",
    use: 'Bottleneck adapters with a tenth of their values: projections are sums of Kronecker products whose small factors all modules share. `placement: "pfeiffer"` is Compacter++, with half of the modules.',
    avoid:
      "Where learning should be fast from the first step: the shared factors start near zero and the rate has to be larger, some 3e-3. Where adapters have to merge.",
    cost: "Two thin products per projection and a bottleneck's non-linearity; the projections themselves are not built where the factors are cheaper.",
    source: "Karimi Mahabadi et al. 2021; options of AdapterHub. A file format of this project.",
  },
  POLY: {
    title: "Poly (Polytropon, multi-head routing)",
    parameters: "nSkills r (in + out) + nTasks nSplits nSkills",
    use: "Many tasks that have something in common, trained together: every task mixes the same LoRA skills in shares of its own, so that few samples suffice for a new one. Batches may hold rows of several tasks.",
    avoid:
      "With one task, for which it is LoRA at several times the values. Where the task of a row is not known when the model runs.",
    cost: "LoRA's products per row, and the mixture of the skills for each row. One task's share of it becomes a LoRA adapter (`polyTask`), which merges.",
    source: "Ponti et al. 2022, Caccia et al. 2022. Files of `peft`.",
  },
  COMPOSITION: {
    title: "Compositions (MAM, UniPELT)",
    parameters: "those of the parts, and in + 1 for a gate",
    use: "When one kind of change is not enough: any set of methods, each at its own modules, trained and saved as one adapter. `mam()` is prefix tuning in attention with a parallel adapter beside feed-forward, `unipelt()` prefix tuning, an adapter and LoRA behind gates that learn which of them to use.",
    avoid:
      "Before the parts alone have been tried: what they add to each other is often less than their cost. Where the adapter has to merge.",
    cost: "The sum of the parts. A gate is one dot product per token.",
    source:
      "He et al. 2110.04366 (MAM), Mao et al. 2110.07577 (UniPELT); defaults of AdapterHub. A file format of this project.",
    example: {
      parts: [
        { method: "PREFIX_TUNING", config: { numVirtualTokens: 30 } },
        { method: "BOTTLENECK", config: { placement: "pfeifferParallel" } },
      ],
    },
  },
  PREFIX_TUNING: {
    title: "Prefix tuning (P-tuning v2)",
    parameters: "2 numVirtualTokens h (keys and values of a block)",
    use: "When the weights must stay as they are and a task is steered by what every block sees: one small table per task, the same session for all of them, decoders with their caches included. With `prefixProjection` it trains more steadily and is stored as the same table.",
    avoid:
      "Where the change has to be merged: it costs its keys in every run. In short runs at LoRA's learning rates, since it wants 5e-3 to 3e-2; where all positions of a learned table are taken, for it shifts them.",
    cost: "numVirtualTokens more columns in the scores of every block. Hidden states keep their length.",
    source: "Li and Liang 2021; P-tuning v2, Liu et al. 2021. Files of `peft`.",
    example: { numVirtualTokens: 20 },
  },
  PROMPT_TUNING: {
    title: "Prompt tuning",
    parameters: "numVirtualTokens · width, once",
    use: "The smallest adapter for a task of a large model: some vectors before the words. Models of billions of parameters reach the accuracy of full tuning with it.",
    avoid:
      "On small models, which it moves little and slowly: it wants learning rates of 0.03 to 0.3 and many steps. Where sequences fill the positions of the model already.",
    cost: "Sequences are longer by the virtual tokens, in every block.",
    source: "Lester et al. 2021. Files of `peft`.",
    example: { numVirtualTokens: 20 },
  },
  P_TUNING: {
    title: "P-tuning",
    parameters: "numVirtualTokens · width, and an encoder that files leave out: 2 h width + h² (MLP)",
    use: "Where prompt tuning is unstable: its vectors are made by a small network, which couples them while they train. What is stored and served is a prompt.",
    avoid:
      "Where training goes on after saving: the network is not in the file. Where trained values are counted: while it trains they are many times the prompt's.",
    cost: "Sequences are longer by the virtual tokens; the network runs once per step on them alone.",
    source: "Liu et al. 2021. Files of `peft`.",
    example: { numVirtualTokens: 20 },
  },
  MULTITASK_PROMPT_TUNING: {
    title: "Multitask prompt tuning",
    parameters: "numVirtualTokens · width once, and numRanks (numVirtualTokens + width) per task",
    use: "When several tasks are known beforehand: what they have in common is trained into one prompt, and each adds a few hundred values of its own.",
    avoid: "For one task without source tasks, where prompt tuning is the same with fewer factors.",
    cost: "As prompt tuning. Rows of a batch may be of different tasks: their ids are fed.",
    source: "Wang et al. 2023. Files of `peft`.",
    example: { numVirtualTokens: 20, numTasks: 4 },
  },
  ADAPTION_PROMPT: {
    title: "LLaMA-Adapter",
    parameters: "adapterLen · hidden + 1",
    use: "To add instructions to a decoder without disturbing it: gates start at zero, so training begins at the base model, and only the upper blocks are adapted.",
    avoid:
      "Where the change has to be merged; with a handful of steps, since the vectors learn only once the gates have opened.",
    cost: "One small attention beside that of each adapted block. Nothing gets longer, positions stay.",
    source: "Zhang et al. 2023. Files of `peft`.",
    example: { adapterLen: 10 },
  },
  XLORA: {
    title: "X-LoRA",
    parameters: "experts (hiddenSize + 1) for a classifier of one layer, per module when layerwiseScalings",
    use: "To mix trained LoRA adapters per token where the mixture has to be learned: a small classifier reads the model's own hidden states and is trained on a little data of the new task.",
    avoid:
      "Where every run has to be cheap: the model runs twice. Where inputs choose their adapter clearly (Arrow, mixed batches).",
    cost: "A pass of the model without gradients before the proper one, and LoRA's products with the ranks of all experts added up.",
    source:
      "Buehler and Buehler 2024. `readXloraFolder` and `writeXloraFolder` take and give folders as `peft` lays them out: the classifier, and an adapter for every expert.",
    example: { hiddenSize: 768, adapters: { a: "", b: "", c: "", d: "" } },
  },
  ARROW: {
    title: "Arrow",
    parameters: "none; with trainExperts experts r (in + out)",
    use: "To use many trained LoRA adapters at once without training: each token is routed to those whose change fits it best, by the leading singular vector of every update. Optionally with what is common to all adapters taken out (GenKnowSub).",
    avoid:
      "When the task of an input is known: then choose its adapter (mixed batches do so row by row). Where adapters must merge, since routes depend on the input.",
    cost: "LoRA's products with the ranks of all experts added up, and a score per expert and token.",
    source:
      "Ostapenko et al. 2024. Made from LoRA files of `peft`; the router itself is a file format of this project.",
    example: { trainExperts: true },
  },
};
