import { beside, line, matrix, type PaperLines, shown } from "./paper-lines.ts";

const loca = "loca.test.ts";
const tlora = "tlora.test.ts";
const krona = "kron-a.test.ts";
const files = "packages/core/src/adapters/diffuse-krona.test.ts";
const svf = "svf.test.ts";
const loldu = "loldu.test.ts";
const linalg = "packages/core/src/linalg";

export const transformPapers: readonly PaperLines[] = [
  {
    title: "LoCA",
    paper: "2502.06820",
    lines: [
      line(
        "The start changes nothing; counts",
        matrix.start,
        shown(loca, "1,000 coefficients: 24,000 for RoBERTa-base, 48,000 for large; 3,000: 72,000 for ViT-base"),
      ),
      line(
        "Orthonormal transforms that equal SciPy's",
        shown(`${linalg}/transforms.test.ts`, "DCT of size %i is orthonormal, and the fast one equals the matrix"),
        shown(`${linalg}/golden.test.ts`, "cosine, Fourier and Hadamard transforms, convolution, Kronecker product"),
        beside.layer,
      ),
      line(
        "Three ways to compute the change; every change with all places; colliding places add",
        shown(
          loca,
          "is the inverse transform of the scattered spectrum, in the graph and as weights; places that meet add up",
        ),
        shown(loca, "with every place any change can be had"),
      ),
      line(
        "Gradients of coefficients and at neighbours; the position gradient's formula",
        shown(loca, "gradients of coefficients and of the probes at the four neighbours, by finite differences"),
        shown(loca, "move along a (Z[next] - Z[previous]) / 2, by Adam, rounded into the grid"),
      ),
      line("Borders", shown(loca, "corners of the grid stay inside, with probes too")),
      line(
        "Fixed places: the same result twice",
        shown(loca, "fixed places are the same for one seed, and never move"),
      ),
      line(
        "The schedule as a trace",
        shown(
          loca,
          "ten steps on coefficients, twenty on places, in turn, and places stay after their share of the training",
        ),
      ),
      line(
        "Merging, files, resuming, 4-bit weights",
        matrix.merge,
        matrix.files,
        matrix.resume,
        shown("compressed-base.test.ts", "over 4-bit weights %s %j is what it is over the weights they stand for"),
      ),
      line("Learned places beside fixed ones on a planted spectrum", { claim: "loca-locations" }),
      line("Learned places beside fixed ones on a task", { claim: "loca-definitions" }),
    ],
  },
  {
    title: "TLoRA (tensor ring)",
    paper: "2501.08727",
    lines: [
      line(
        "The start changes nothing but by rounding; regularisers are zero",
        shown(tlora, "a new transform of rank %i changes nothing but by rounding, either way"),
        shown(tlora, "both are zero at the start"),
      ),
      line(
        "The transform by its definition, and core after core",
        shown(tlora, "the transform of factors %j, rank %i, is its definition, in the graph too"),
        shown(tlora, "core after core gives what the matrix of factors %j, rank %i, gives, with the same gradients"),
        beside.layer,
      ),
      line(
        "Rank 1, diagonal cores, one core, no transform",
        shown(tlora, "rank 1 is a Kronecker product, the last core outermost"),
        shown(tlora, "diagonal cores scale columns"),
        shown(tlora, "one core of rank 1 is a free matrix"),
        shown(tlora, "no transform and a LoRA residual is LoRA, bit for bit"),
      ),
      line(
        "Full rank and dense, beside blocks of equal size",
        shown(tlora, "the transform has full rank and no zeros, where blocks of the same size have zeros"),
      ),
      line(
        "The regularisers and their gradients",
        shown(tlora, "T·Tᵀ is the ring of the cores G"),
        shown(tlora, "%s: gradients, and null where it is not asked for"),
        matrix.gradients,
      ),
      line("Parameter counts", shown(tlora, "Stable Diffusion 1.5 and SDXL")),
      line("Merging, files, several adapters", matrix.merge, matrix.files, matrix.swap, matrix.two),
      line("Transformed and low-rank targets", { claim: "tlora-transform" }),
      line("Pictures of a subject with half of LoRA's parameters, and from a random start", { claim: "tlora-subject" }),
    ],
  },
  {
    title: "DiffuseKronA",
    paper: "2402.17412",
    lines: [
      line("The start changes nothing", matrix.start),
      line(
        "Parameter counts of UNets and text encoder",
        shown("counts.test.ts", "DiffuseKronA on the SDXL UNet: (4, 64) is a third smaller than LoRA r 4"),
        shown(krona, "SDXL: products of 512 and 1,024, of which the larger is smaller"),
        shown(krona, "Stable Diffusion 1.x, the UNet alone and with its text encoder"),
      ),
      line(
        "Both layouts by index formulas and beside the official layer",
        shown(krona, "official is paper with its rows in another order: the same singular values, each row once"),
        beside.layer,
      ),
      line(
        "Limits: outer products, a free matrix, LoKr",
        shown(krona, "A one row as wide as the input: every change is an outer product"),
        shown(krona, "A as large as the weight is a free matrix, and so is B"),
        shown(krona, "the paper's layout is LoKr with full factors, bit for bit"),
      ),
      line(
        "The rank is a product of ranks; merging and files",
        shown(krona, "the rank is the product of the factors' ranks"),
        matrix.merge,
        matrix.files,
      ),
      line(
        "Divisors that do not fit",
        shown(krona, "sizes that do not divide are an error that names the module, before any training"),
      ),
      line(
        "Official checkpoints, read and written",
        shown(files, "a file of the authors' code, merged, is the published layer at every projection"),
        shown(files, "written again it has the same names and values"),
      ),
      line("Less dependent on the learning rate than LoRA, on pictures of a subject", { claim: "krona-subject" }),
      line("Less dependent on the learning rate than LoRA, on a planted change", { claim: "krona-rates-planted" }),
      line("Less dependent on the learning rate than LoRA, on a task", { claim: "krona-learning-rates" }),
    ],
  },
  {
    title: "CLIP-SVD",
    paper: "2509.03740",
    lines: [
      line(
        "The start, bit for bit as a sum and by rounding in the published form; counts",
        matrix.start,
        shown(svf, "starts as the base: its sum and its factors"),
        shown(svf, "92,160 for CLIP ViT-B/16 and 110,592 for BiomedCLIP, from shapes alone"),
      ),
      line(
        "Both forms make equal steps for both decays",
        shown(svf, "both forms make the same ten steps, for decay to zero and to the base, which differ"),
        shown(svf, "decay to the base shrinks s - s0, decay to zero s itself"),
      ),
      line(
        "The gradient, by finite differences and from the full one",
        shown(svf, "the gradient is the diagonal of Uᵀ·dW·Vᵀ, and that of finite differences"),
      ),
      line(
        "Scaled singular values, turned signs",
        shown(svf, "singular values a times as large are the weight times a"),
        shown(svf, "turning the signs of a pair of vectors changes nothing"),
      ),
      line(
        "Merging, LoRA of full rank; only singular values move",
        matrix.merge,
        shown(svf, "as LoRA of full rank it is the merged model"),
        matrix.onlyAdapter,
      ),
      line(
        "A decomposition for each part of a packed product",
        shown(svf, "query, key and value of one packed product have a decomposition each"),
      ),
      line(
        "Another machine's or model's base is refused",
        shown(svf, "another base model is refused by its singular values"),
      ),
      line("Five AdamW steps of the official module", beside.training),
      line(
        "A text tower in chunks with supplied gradients",
        shown(
          "packages/core/src/train/gradient-cache.test.ts",
          "towers apart: 8 images in chunks of %d, 5 prompts in chunks of %d",
        ),
      ),
      line("Few shots of shifted images beside LoRA", { claim: "clip-svd-shapes" }),
    ],
  },
  {
    title: "LoLDU",
    paper: "2410.13618",
    lines: [
      line(
        "The factors multiply back to the weight; LAPACK's pivots",
        shown(loldu, "P L diag(d) U is the weight: %s"),
        shown(`${linalg}/golden.test.ts`, "LU chooses the same pivots"),
      ),
      line(
        "Which starts change the model",
        shown(loldu, "four starts leave the model bit for bit as it is, the others change it"),
      ),
      line(
        "Parameter counts; only pivots move",
        shown(loldu, "55,296 for ViT-base, 16,384 for LLaMA-2-7B, 18,432 for RoBERTa-base, from shapes alone"),
        matrix.onlyAdapter,
      ),
      line(
        "Full rank, and VeRA with these factors",
        shown(loldu, "at full rank the weight is s P L diag(z) U alone"),
        shown(loldu, "is VeRA with frozen factors U and P L, moved by the start"),
      ),
      line("The official layer in three shapes", beside.layer),
      line(
        "Activation form, weight form, gradient; merging; LoRA",
        shown(
          loldu,
          "the change on activations is the change of the weight, and z's gradient that of finite differences",
        ),
        matrix.merge,
        shown(loldu, "as LoRA of rank r it is exact; another base model is refused by its pivots"),
      ),
      line("Beyond the head with a hundredth of LoRA's parameters", { claim: "loldu-pivots" }),
    ],
  },
  {
    title: "QWHA",
    paper: "2509.17428",
    lines: [
      line(
        "Hadamard matrices and transforms",
        shown(
          `${linalg}/hadamard.test.ts`,
          "order %i: H Hᵀ = n I, and the transforms are products with H and its inverse",
        ),
        shown(`${linalg}/hadamard.test.ts`, "the matrix of order %i is the published one"),
      ),
      line("The official layer", beside.layer),
      line(
        "The zero start; gradients; merging, files, swapping",
        matrix.start,
        matrix.gradients,
        matrix.merge,
        matrix.files,
        matrix.swap,
      ),
      line(
        "The budget is LoRA's",
        shown("qwha.test.ts", "r (m + n) coefficients: 97,255,424 for Llama-3.2-3B with r 64, as LoRA"),
      ),
      line(
        "The start from the error of a quantised base",
        shown("qwha-start.test.ts", "places and values are those of the specification written out in NumPy"),
        shown("qwha-start.test.ts", "the spectrum is what the linear system N·X = R·Eᵀ gives"),
        shown("qwha-start.test.ts", "of norms %j add up to %i"),
        shown("qwha-start.test.ts", "with all coefficients of [%i, %i] the error is gone"),
      ),
      line(
        "Its parts in the reference trial",
        shown("qwha-start.test.ts", "rows of unequal scale: each part of the start is worth its place"),
        shown("qwha-start.test.ts", "rows of equal scale: adaptive counts are even ones, still below LoftQ"),
      ),
      line(
        "Another factor, the same function",
        shown("qwha.test.ts", "another factor with values divided by it is the same function"),
      ),
      line("The start beside QLoRA over a 2-bit base", { claim: "qwha-start" }),
    ],
  },
];
