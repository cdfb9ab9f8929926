import type { MethodEntry } from "./entry.ts";

/** Changes of low rank, and products of small factors. */
export const lowRankEntries: Readonly<Record<string, MethodEntry>> = {
  LORA: {
    title: "LoRA",
    parameters: "r (in + out)",
    use: "The default. Most runtimes and tools read it, adapters can be added up, and one session serves any mixture of ranks. Options of it: rsLoRA keeps high ranks stable, DoRA trains the norms of rows apart, PiSSA and OLoRA start in the weight's own directions, EVA in those of the data (and gives ranks to the modules that explain most of it), LoRA-GA in those of the gradient, CorDA in those that matter most or least to the data, LoRA-FA (`freezeA`) trains B alone: half the values, and the input of a module is not kept for the backward pass. It alone adapts mixtures of experts whose matrices are one parameter (`targetParameters`).",
    avoid:
      "Where a few kilobytes per adapter matter (VeRA, IA3), or where the change has to be of high rank (HiRA, RandLoRA, SHiRA).",
    cost: "Two thin products per module. DoRA adds the norms of the rows, PiSSA, OLoRA, LoRA-GA and CorDA a decomposition of each weight at the start and, while they train, a second pair of factors; EVA, LoRA-GA and CorDA some batches before training.",
    source:
      "Hu et al. 2021; rsLoRA 2312.03732, DoRA 2402.09353, PiSSA 2404.02948, LoRA-FA 2308.03303, EVA 2410.07170, LoRA-GA 2407.05000, CorDA 2406.05223. Files of `peft`.",
  },
  ADALORA: {
    title: "AdaLoRA",
    parameters: "initR (in + out + 1)",
    use: "When a fixed budget of ranks should go to the modules that need them most: ranks with little influence are switched off while it trains.",
    avoid:
      "When the number of steps is not known beforehand, for the schedule needs it, or in runs so short that the budget is cut before importance can be measured.",
    cost: "LoRA's products at the higher starting rank, a penalty on A·Aᵀ and Bᵀ·B every step, and the bookkeeping of importances outside the graph.",
    source: "Zhang et al. 2023. Files of `peft`.",
  },
  TRIADAPTLORA: {
    title: "TriAdaptLoRA",
    parameters: "r (in + out) + 2 Σ a_i o_i for blocks of size a_i that end at rank o_i",
    use: "When a budget of ranks should go to the modules that need them and training should start small: every module begins with few ranks, and those whose middle matrix grows most get more. The result is a LoRA of the same ranks (`triAdaptToLora`).",
    avoid:
      "In runs of few steps, in which there is little growth to judge by. Where new ranks must not shrink the update (the scale is divided by the rank): use a constant scale or `rescaleOnGrowth`.",
    cost: "LoRA's products at the current rank and one of [r, r]; a penalty on A·Aᵀ and Bᵀ·B every step. Growth changes the fed tensors, not the session.",
    source: "Liang et al. 2025, with the authors' code. File keys as in their fork of `peft`.",
  },
  DYLORA: {
    title: "DyLoRA",
    parameters: "rMax (in + out)",
    use: "When the rank is to be chosen after training: one run gives a LoRA of every rank up to rMax (`truncateDylora`).",
    avoid:
      "When the rank is known. Each step trains a part of the factors only, so the full rank takes longer than a LoRA of that rank.",
    cost: "LoRA's products; one rank is drawn for all modules per step, without another graph.",
    source: "Valipour et al. 2022. A truncated adapter is a LoRA file.",
  },
  HYDRA: {
    title: "Hydra",
    parameters: "r_p (in + out) + 2 r_s out, and r_p + r_s + 2 out for biases",
    use: "To combine a branch on the module's input (as in LoRA) with one on its output, which recombines features that the model has already. Both merge.",
    avoid:
      "Where adapters must be plain differences: the second branch multiplies the weight and changes the bias, so it follows the base and becomes no LoRA.",
    cost: "Four thin products per module with both branches.",
    source: "Kim et al. 2023. A file format of this project.",
  },
  VERA: {
    title: "VeRA",
    parameters: "r + out",
    use: "Many small adapters of one model: random projections are shared by all modules and only two vectors are trained. A seed can stand for the projections in the file.",
    avoid:
      "With LoRA's learning rates: vectors want larger ones, some 1e-2. With little memory for activations at the large ranks that it is used with.",
    cost: "Two products of rank r (256 by default), so more arithmetic than LoRA of rank 8 although it trains far less.",
    source: "Kopiczko et al. 2023. Files of `peft`.",
  },
  PVERA: {
    title: "PVeRA",
    parameters: "2 r + out",
    use: "VeRA where inputs are ambiguous or samples few: in training the inner values are drawn from a normal distribution that follows from the input, which acts like a learned dropout. What is saved and served is the mean, a plain VeRA that merges.",
    avoid:
      "Where a training has to show little noise, or where the distribution itself is wanted at inference: `sample_at_inference` is refused, since a session gives one result.",
    cost: "In training a second product with the input, a random value for each token and inner value, and twice VeRA's projection of the input in memory; nothing more than VeRA afterwards.",
    source: "Fillioux et al. 2025. Files of `peft`.",
  },
  VBLORA: {
    title: "VB-LoRA",
    parameters: "r numVectors (in + out) / vectorLength, and numVectors · vectorLength once",
    use: "When the stored adapter has to be as small as possible: all modules compose their factors from one bank of vectors.",
    avoid:
      "Where training memory is the limit: the logits that choose the vectors outnumber LoRA's values while it trains. Where a new adapter has to change nothing: this one does not start at the identity.",
    cost: "LoRA's products, and the selection and mixture of vectors in every step.",
    source: "Li et al. 2024. Files of `peft`.",
  },
  UNILORA: {
    title: "Uni-LoRA",
    parameters: "thetaDLength, once",
    use: "When an adapter is to be a few hundred or thousand numbers whatever the model: one vector is trained, and every value of LoRA's factors at every module is one of its entries times a factor, so that all modules share everything. Files hold the vector and a seed.",
    avoid:
      "Where a new adapter has to change nothing: this one does not start at the identity. Where files without indices go to other exports or to `peft` and modules come in another order there: set `saveIndices`, or a wrong order is not noticed.",
    cost: "LoRA's products, and a gather of both factors in every step. Indices and factors take four values of memory for each two of LoRA's while it runs, and none in the file.",
    source: "Li et al. 2025. Files of `peft`.",
  },
  LILY: {
    title: "Lily",
    parameters: "numB r, and r in for every strideA neighbours, numB r out for all modules of a kind",
    use: "At LoRA's number of trained values when a larger rank is wanted: layers share matrices, one A for neighbours and several B for all, and a router at each module mixes the latter by what it reads. Take two to four times LoRA's rank, a large strideA and a small numB.",
    avoid:
      "Where results must not depend on the batch: the router's weights are a mean over all its tokens, padding included, so other rows and other lengths change them, and rows of one batch cannot have other adapters. Where an adapter has to be merged: it is no fixed change of weights.",
    cost: "LoRA's products at the larger rank, a mixture of the matrices B per module and run, a router. Nothing is merged away. Files hold the shared matrices under every module, as those of `peft` do.",
    source: "Zhong et al. 2024. Files of `peft`.",
  },
  MOS: {
    title: "MoS",
    parameters: "equivalentRank (in + out)",
    use: "At a budget of a very small LoRA when a higher rank per module is wanted: rows and columns are glued from shards that modules of one kind share.",
    avoid: "With one adapted module of a kind: then there is nothing to share.",
    cost: "LoRA's products at rank r, and a gather of the shards.",
    source: "Wang et al. 2024. A file format of this project.",
  },
  RANDLORA: {
    title: "RandLoRA",
    parameters: "ceil(min(in, out) / r) (r + min(in, out))",
    use: "When the update should have full rank at about LoRA's number of trained values: it is a sum of random bases, each with two trained diagonals.",
    avoid:
      "On wide models with short sequences, where its dense product weighs most; where a few thousand values are enough.",
    cost: "Two products with the stacked bases, together about two dense layers of the smaller width. A small r means more bases and more trained values.",
    source: "Albert et al. 2025. Files of `peft`.",
  },
  DELORA: {
    title: "DeLoRA",
    parameters: "r (in + out) + 1",
    use: "Where training with LoRA drifts at large learning rates: factors are normalised and one number bounds the size of the change.",
    avoid: "When adapters move between base models: the norms of the weight's columns are part of the file.",
    cost: "LoRA's products, and norms of the factors per step.",
    source: "Bini et al. 2025. Files of `peft`.",
  },
  GRALORA: {
    title: "GraLoRA",
    parameters: "(r + hybridR) (in + out)",
    use: "At high ranks, where LoRA lets a few outlying input channels rule the update: the weight is divided into blocks with factors of their own, and the total rank is k times larger.",
    avoid: "At very small ranks, since r is divided among the blocks; for widths that graloraK does not divide.",
    cost: "The arithmetic of LoRA of the same r, in batched products, and some reshaping.",
    source: "Jung et al. 2025. Files of `peft`.",
  },
  MISS: {
    title: "MiSS (Bone)",
    parameters: "r out; mini: r miniR",
    use: "When speed counts: the update is a sum over blocks of the input and one thin product, with a single trained matrix.",
    avoid:
      'Where inputs that lie r apart must be told apart: they share a column of the change (variant "bat" uses the weight to do so).',
    cost: 'One thin product. "bat" needs the dense change [out, in].',
    source: "Kang and Yin 2024. Files of `peft`.",
  },
  LOHA: {
    title: "LoHa",
    parameters: "2 r (in + out); convolutions 2 r (out + in places), from cores 2 r (out + in + r places)",
    use: "For a change of rank up to r² from thin factors; widespread in image models.",
    avoid: "For a high r: the cost grows with its square.",
    cost: "Two products of rank r², or a dense [out, in] per module and step where that is less.",
    source: "Hyeon-Woo et al. 2021, as in LyCORIS. Files of `peft`.",
  },
  LOKR: {
    title: "LoKr",
    parameters:
      "the sizes of two Kronecker factors, the larger as a product of rank r; at convolutions it has the kernel's places",
    use: "Very small files with a change of high rank, in image models above all.",
    avoid: "For widths that are prime or nearly so: the factors then degenerate.",
    cost: "Products of the small factors from both sides; the Kronecker product is built at convolutions only.",
    source: "Yeh et al. 2023 (LyCORIS). Files of `peft`.",
  },
  KRONA: {
    title: "DiffuseKronA's Kronecker adapter",
    parameters: "a1 a2 + in out / (a1 a2)",
    use: "Personalising diffusion models with few values, where the factors' sizes are to be set by hand.",
    avoid: "With a1 a2 far from sqrt(in out): the number of values grows on both sides of it.",
    cost: "Two small products per module; the Kronecker product is never built.",
    source:
      "Marjit et al. 2024. A file format of this project; the authors' own by `readDiffuseKronA` and `writeDiffuseKronA`.",
  },
  TINYLORA: {
    title: "TinyLoRA",
    parameters: "u per group of modules; weightTying chooses between a group for each module and one for all",
    use: "The fewest trained values there are, down to one in all: a weighted sum of fixed random matrices stands between the leading singular directions of each weight.",
    avoid:
      "Where the data asks for more than a steering of what the model can do already. Files are much larger than the trained values: the singular directions are in them.",
    cost: "Three thin products per module, and a decomposition of each weight at the start.",
    source: "Morris et al. 2026. Files of `peft`.",
  },
  TLORA_TENSOR: {
    title: "TLoRA (tensor ring)",
    parameters: "R² Σ n_d² for the transform; R'² Σ (n_d + m_d), or r (in + out), for the residual",
    use: "Personalising image models with few values: a transform of full rank near the identity turns the inputs of the weight, and a small residual is added.",
    avoid: "On wide modules with little memory, and for widths without small factors.",
    cost: "The transform [in, in] is made from its cores in every run, in² R² multiplications, and applied as a dense product.",
    source: "Tao et al. 2025, whose layer code was not published. A file format of this project.",
  },
  HIRA: {
    title: "HiRA",
    parameters: "r (in + out)",
    use: "When LoRA saturates: the thin product multiplies the weight entry by entry, so the change has a high rank at LoRA's size.",
    avoid:
      "Over a packed base on a small machine: the weight is needed as a dense matrix. Not for moving between base models.",
    cost: "A dense [out, in] per module and step.",
    source: "Huang et al., ICLR 2025. Files of `peft`.",
  },
  GLORA: {
    title: "GLoRA",
    parameters: "2 r (in + out) for A and B, r (in + 1) for C, one each for D and E; fewer in other forms",
    use: "When scale, shift and bias of a layer should be adapted together, each part in a form of its own.",
    avoid: "When simple LoRA is enough: there are more options to tune, and the bias changes, so it becomes no LoRA.",
    cost: "The part that multiplies W needs the dense weight; vectors and numbers in the place of products are cheap.",
    source: "Chavan et al. 2023. Files of `peft`.",
  },
};
