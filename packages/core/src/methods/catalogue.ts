/** What a reader needs to choose a method; everything that follows from the method itself is not repeated here. */
export interface MethodEntry {
  readonly title: string;
  /** Trained values of one module. */
  readonly parameters: string;
  readonly use: string;
  readonly avoid: string;
  readonly cost: string;
  readonly source: string;
  /** Options that its config asks for, in the example count. */
  readonly example?: Readonly<Record<string, unknown>>;
}

/** Notes on every registered method by `peft_type`: docs/methods.md is made from them. */
export const methodCatalogue: Readonly<Record<string, MethodEntry>> = {
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
    source: "Marjit et al. 2024. A file format of this project.",
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
  OFT: {
    title: "OFT",
    parameters: "in (b - 1) / 2 for blocks of size b",
    use: "Where the relations between features should survive: inputs are rotated and lengths are kept. Used for subjects and control in image models.",
    avoid: "Where the scale of features has to change, for rotations cannot do that.",
    cost: "Small batched products and, by default, five terms of a series in the place of an inverse.",
    source:
      "Qiu et al. 2023. Files of `peft`, whose default series turns the other way than the exact form; at convolutions the change is the one that it merges.",
  },
  BOFT: {
    title: "BOFT",
    parameters: "m b in + out for m factors with blocks of size b",
    use: "Rotations that reach across blocks, with fewer values than one large block would take.",
    avoid:
      "When time is short, or small differences to `peft` on processors matter: there only one factor is computed.",
    cost: "An exact inverse of each block and m permuted products in a row: among the slowest methods here.",
    source: "Liu et al. 2023. Files of `peft`.",
  },
  PSOFT: {
    title: "PSOFT",
    parameters: "r (r - 1) / 2 + 2r",
    use: "A rotation as in OFT, of the weight's r leading directions alone: few values, independent of the module's width, and geometry that stays.",
    avoid:
      "Where starting has to be fast: every module is decomposed first. Where the task needs directions that the weight has hardly any of.",
    cost: "LoRA's two thin products with one of [r, r] between them, an inverse of [r, r] per step, and one SVD per module at the start and again when a file is read.",
    source: "Wu et al. 2025. Files of `peft`.",
  },
  HRA: {
    title: "HRA",
    parameters: "r in",
    use: "A rotation of the inputs with LoRA-like cost: a product of r Householder reflections, half of LoRA's values at square modules.",
    avoid: "With odd r: reflections start in pairs that cancel, and an odd one changes the model at once.",
    cost: "Thin products, and the inverse of a triangular [r, r], so r should stay small.",
    source: "Yuan et al. 2024. Files of `peft`.",
  },
  ROAD: {
    title: "RoAd",
    parameters: "out, 2 out or 4 out",
    use: "Very few values and very cheap inference without merging: pairs of outputs are rotated and scaled.",
    avoid: "For tasks far from what the model knows; where the bias must not change.",
    cost: "Entry-wise operations on the output.",
    source: "Liao and Monz 2024. Files of `peft`.",
  },
  FOURIERFT: {
    title: "FourierFT",
    parameters: "nFrequency",
    use: "A number of values that does not grow with the module: coefficients at random frequencies.",
    avoid:
      "With LoRA's learning rates (it wants some 1e-2), and where a new adapter must change nothing unless `initWeights` is set.",
    cost: "Tables of cosines and sines give a quarter of the dense change, the rest follows by symmetry; it grows with nFrequency.",
    source: "Gao et al. 2024. Files of `peft`, which do not hold the places: the seed makes them.",
  },
  WAVEFT: {
    title: "WaveFT",
    parameters: "nFrequency",
    use: "A number of values that does not grow with the module, as in FourierFT, but each of them changes a small patch of the weight and not all of it.",
    avoid: "With LoRA's learning rates, and with long wavelets on wide modules when time matters.",
    cost: "A scatter into [out, in] and a product with it, whatever nFrequency is; wavelets longer than db1 make a dense change from it, by products with [out, out] and [in, in].",
    source:
      "Bilican et al. 2025. Files of `peft`, which do not hold the places: the seed makes them. No coif4 and coif5.",
  },
  LOCA: {
    title: "LoCA",
    parameters: "nFrequency, and two learned places each",
    use: "FourierFT's idea with cosines when the places of the coefficients should be learned too.",
    avoid: "Where official code is asked for: there is none, and details are this project's reading of the paper.",
    cost: "Cosine transforms of the input and the output and a product with the coefficients, scattered into [out, in] with four probes around each for the gradients of its place.",
    source: "Du et al. 2025. A file format of this project.",
  },
  QHFT: {
    title: "QWHA",
    parameters: "r (in + out)",
    use: 'Sparse coefficients in the Walsh-Hadamard domain: full rank without trigonometric tables, meant for quantised bases: `initWeights: "quantization"` starts at what cancels most of their error on calibration data.',
    avoid: "For widths without a Hadamard matrix, and for that start where the float weights are not at hand.",
    cost: "A transform of the input by two small products, and a product with coefficients scattered into [out, in]. The start from data takes some batches, a product of [out, in] with [in, in] and small least-squares problems per module.",
    source: "Jeon et al. 2025. A file format of this project.",
  },
  C3A: {
    title: "C3A",
    parameters: "in out / b for blocks of size b",
    use: "High rank with few values: the change consists of circulant blocks.",
    avoid:
      "For widths that blockSize does not divide, and where a new adapter must change nothing unless `initWeights` is true. It wants learning rates of 1e-2 and more.",
    cost: "The blocks are read into a dense [out, in] per module.",
    source: "Chen et al. 2024. Files of `peft`.",
  },
  SHIRA: {
    title: "SHiRA",
    parameters: "r (in + out)",
    use: "Adapters that are switched often or added up: only a small share of the entries changes, at fixed random places, so that adapters hardly meet.",
    avoid: "When few values are wanted on large modules: the positions are stored as well.",
    cost: "A scatter into a dense [out, in]; the backward pass gathers from the whole weight's gradient.",
    source: "Bhardwaj et al. 2024. Files of `peft`.",
  },
  PACA: {
    title: "PaCA",
    parameters: "r out",
    use: "When memory for activations is the limit: r columns of the weight are trained in place, and only r features of the input are kept for the backward pass.",
    avoid: "When one file should fit several base models: it holds the columns themselves.",
    cost: "One thin product per module where LoRA has two.",
    source: "Woo et al. 2025. A file format of this project.",
  },
  SVF: {
    title: "CLIP-SVD's singular values",
    parameters: "min(in, out)",
    use: "With a handful of examples: the directions of the weight stay, their strengths are trained.",
    avoid: "Where the task needs new directions. Where starting has to be fast: every module is decomposed first.",
    cost: "Two products as wide as the layer, and one SVD per module at the start and again when a file is read.",
    source: "Koleilat et al. 2025. A file format of this project.",
  },
  FROD: {
    title: "FRoD",
    parameters: "in + sparseRate in²",
    use: "When the change should be of full rank and training fast: weights of one kind of module are written in a basis that all layers share, their scales are trained, and beside them a few entries that turn directions into others. It learns in few steps, and sparseRate sets the number of values.",
    avoid:
      "For small files: each kind of module has a basis [in, in] in them. When adapters move between base models: the other factor comes from the weight. Where input widths are large: values and the basis grow with their square.",
    cost: "Three dense products per module and step, [in, in] twice and [out, in]; U of each weight's size in memory. At the start a QR decomposition of all weights of a kind, an inverse and a solution per module.",
    source:
      "Wan et al. 2025. Files of `peft` that hold the basis; `peft` 0.21 itself reads those rightly whose basis is the one that it makes, its own.",
  },
  LOLDU: {
    title: "LoLDU",
    parameters: "r",
    use: "Very few values: some pivots of an LDU decomposition of the weight.",
    avoid: "Where LoRA's quality is needed at once: a few hundred numbers per module express little.",
    cost: "Two products of rank r (256 by default), and one LU decomposition per module at the start and when a file is read.",
    source: "Shi et al. 2024. A file format of this project.",
  },
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
  IA3: {
    title: "IA3",
    parameters: "out, or in for feed-forward modules",
    use: "Few examples and tiny files: keys, values and hidden activations are scaled by learned vectors.",
    avoid:
      "With LoRA's learning rates (some 3e-3 is usual), and for large data sets. Where outputs are scaled the bias changes too, so it becomes no LoRA.",
    cost: "One multiplication per activation.",
    source: "Liu et al. 2022. Files of `peft`.",
  },
  BITFIT: {
    title: "BitFit",
    parameters: "out, where the module has a bias",
    use: "A strong and nearly free baseline for encoders with biases.",
    avoid: "For models without biases, as most decoders of today.",
    cost: "None: the biases are inputs of the same graph.",
    source: "Ben Zaken et al. 2021. `peft` has no such type; files hold whole new biases.",
  },
  BEFT: {
    title: "BEFT",
    parameters: "out",
    use: "A bias at the value projections alone: still smaller than BitFit, and it needs no bias in the base unless it is merged.",
    avoid: "For tasks that need more than a shift of the values.",
    cost: "One addition.",
    source: "arXiv 2509.15974. Files of `peft`.",
  },
  LN_TUNING: {
    title: "LN tuning",
    parameters: "2 width",
    use: "Domain shift at next to no cost; together with a trained head. Norms are small, and nearly every model has them.",
    avoid: "For tasks that need new features.",
    cost: "None: the norms' weights are inputs of the same graph.",
    source: "Zhao et al. 2023. Files of `peft`.",
  },
  TRAINABLE_TOKENS: {
    title: "Trainable tokens",
    parameters: "tokens · width",
    use: "New special tokens or a new word (textual inversion): rows of an embedding are trained and nothing else.",
    avoid: "For everything else.",
    cost: "A comparison of the input ids with the chosen tokens.",
    source: "`peft`'s type of that name.",
    example: { tokenIndices: [0] },
  },
  FULL: {
    title: "Full modules",
    parameters: "all",
    use: "The reference that adapters are measured against; with `modulesToSave` alone a linear probe.",
    avoid: "Where memory for optimiser state or the size of files matters.",
    cost: "Gradients and two optimiser slots for every value of the chosen modules.",
    source: "What `modules_to_save` of `peft` is. No type of its own there.",
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
      "Buehler and Buehler 2024. Experts are LoRA files of `peft` and the classifier's tensors have its names; the whole is a file format of this project.",
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
