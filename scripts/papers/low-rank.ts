import { beside, line, matrix, type PaperLines, shown } from "./paper-lines.ts";

const dylora = "dylora.test.ts";
const mos = "mos.test.ts";
const rand = "randlora.test.ts";
const paca = "paca.test.ts";
const hydra = "hydra.test.ts";

export const lowRankPapers: readonly PaperLines[] = [
  {
    title: "DyLoRA",
    paper: "2210.07558",
    lines: [
      line("The start changes nothing, whatever the rank", shown(dylora, "the start is the identity at every rank")),
      line(
        "With one component it is LoRA of rank 1",
        shown(dylora, "rMax 1 is LoRA of rank 1 with scale alpha, bit for bit (%s)"),
      ),
      line(
        "Always at full rank with prefix updates it is LoRA",
        shown(dylora, "always at rMax with prefix: LoRA's losses bit for bit"),
      ),
      line(
        "Which components learn at a rank, by finite differences of the truncated loss too",
        shown(dylora, "%s at rank %i: components %j of every A and B"),
        shown(dylora, "gradients at a rank are those of the truncated loss by finite differences, zero above it"),
      ),
      line(
        "What the optimiser does to the other components, with its mask and without",
        shown(
          dylora,
          "with the optimiser's mask the others stay bit for bit; without it AdamW moves them by its decay alone",
        ),
        shown(dylora, "once drawn, a component goes on by momentum unless the mask holds it"),
      ),
      line(
        "Ranks are uniform, the same for all modules and micro-batches of a step, and reproduced on resume",
        shown(dylora, "are uniform over 10,000 draws, and the same again"),
        shown(dylora, "are one for all modules and all micro-batches of a step, or one for each module"),
        matrix.resume,
      ),
      line(
        "The factor alpha / b, and its form with square roots",
        shown(dylora, "is alpha / b over the first b terms, and equals the published square roots"),
      ),
      line(
        "Cut to a rank it is a LoRA file; merging at a rank and back",
        shown(dylora, "to rank b it is a LoRA file with the same logits; merging at b and unmerging gives the base"),
        shown(dylora, "cuts of all ranks are served by one session of LoRA, by feeding"),
      ),
      line("The official layer over ten SGD steps with a fixed sequence of ranks", beside.layer, beside.training),
      line(
        "LyCORIS' blocks and factor",
        shown(
          dylora,
          "LyCORIS trains with alpha / blocks and saves alpha / rank: at full rank they differ by the block size",
        ),
      ),
      line("Components are ordered by importance", { claim: "dylora-order" }),
      line(
        "One training for all ranks, and what it costs",
        { claim: "dylora-pairs" },
        { claim: "dylora-all-ranks" },
        { claim: "dylora-falling-planted" },
        { claim: "dylora-ranks-planted" },
      ),
    ],
  },
  {
    title: "MoS",
    paper: "2410.00938",
    lines: [
      line("The start changes nothing", matrix.start),
      line(
        "As many parameters as LoRA of the equivalent rank, whatever the other sizes",
        shown(mos, "sizes do not change the number of parameters: LoRA's of rank e"),
        shown("counts.test.ts", "LLaMA-2-7B, seven linears: 2,498,560 per rank"),
      ),
      line(
        "All private and whole it is LoRA, split into shards the same function",
        shown(
          mos,
          "every shard whole and private is LoRA of rank e bit for bit, forward and gradients; split ones are the same function",
        ),
      ),
      line(
        "Laws of the lists, and errors with the numbers",
        shown(
          mos,
          "lists have r l entries without repeats; private shards are used by their owner alone, public ones lie below (e - p) L l",
        ),
        shown(mos, "lists of A and B differ, and those of modules; without dissociation there is one"),
        shown(mos, "%j is refused with the numbers"),
      ),
      line(
        "Order of shards inside a row",
        shown(mos, "two shards a vector, rank 3: shards of a row stand side by side in the order of the list"),
      ),
      line(
        "A pool's gradient is the sum over its modules",
        shown(
          mos,
          "a pool's gradient is the sum of its modules' gradients at their places, zero for shards that nobody reads",
        ),
        matrix.gradients,
      ),
      line(
        "Full rank after training, no two changes alike, unread shards never move, exact as LoRA",
        shown(
          mos,
          "unread shards never move under AdamW; every change has rank r above e, and no two are multiples of each other",
        ),
      ),
      line("Two adapters in one graph by feeding", matrix.swap),
      line(
        "The bound of the start is that of whole vectors",
        shown(mos, "A starts within the bound of its full width, not of a shard's"),
      ),
      line("Assembly and five SGD steps beside PyTorch", beside.layer, beside.training),
      line(
        "Beside LoRA of as many and of four times as many parameters, and without each ingredient",
        { claim: "mos-shards-planted" },
        { claim: "mos-shards" },
      ),
    ],
  },
  {
    title: "RandLoRA",
    paper: "2502.00987",
    lines: [
      line(
        "The start changes nothing; in the first step only lambda has a gradient",
        matrix.start,
        shown(rand, "at the start only lambda has a gradient"),
      ),
      line(
        "The pairing of columns is peft's in both orientations, and the paper's would be another function",
        beside.layer,
        shown(rand, "is peft's, and the paper's would be another function"),
      ),
      line(
        "The change reaches full rank",
        shown(rand, "the change reaches full rank, where LoRA with as many parameters keeps its own"),
      ),
      line(
        "One base; linear in lambda with gamma fixed",
        shown("limits.test.ts", "RandLoRA with one base is B·diag(lambda)·A·diag(gamma)"),
        shown(rand, "with gamma fixed the change is linear in lambda"),
      ),
      line(
        "Parameter counts, fewer for a larger r",
        shown(rand, "LLaMA-3-8B with r 30 has as many parameters as LoRA with r 32; the larger r, the fewer"),
      ),
      line(
        "The two published factors",
        shown(rand, "the official factor is peft's divided by the root of the number of bases"),
      ),
      line(
        "Files of peft, with and without copies of the bases",
        shown(rand, "files of peft are read with and without copies of the bases under every module"),
        shown("packages/core/src/adapters/peft.golden.test.ts", "over %s gives peft's logits, merged and fed"),
      ),
      line("Sparse bases: frequencies and deviation", shown(rand, "sparse bases %j: frequencies and deviation")),
      line(
        "No copy of A for every base stays in memory",
        shown(rand, "the backward pass reads one product as large as the weight, and no copy of A for every base"),
      ),
      line("A change of full rank", { claim: "randlora-full-rank" }),
      line("A task of classification beside LoRA of as many parameters", { claim: "randlora-definitions" }),
    ],
  },
  {
    title: "PaCA",
    paper: "2503.01905",
    lines: [
      line(
        "The start is the base, and the three forms agree",
        shown(paca, "the start is the base: exactly for factors that are powers of two"),
        shown(paca, "the three forms agree in output, dx and dP for x %j"),
      ),
      line(
        "LoRA with one-hot rows takes the same 50 steps",
        shown(paca, "is LoRA with one-hot rows of A: the same 50 steps of Q = P - P0 (%j)"),
      ),
      line(
        "All columns are a trained weight",
        shown(paca, "with all columns it is a trained weight: SGD with factor 1"),
      ),
      line(
        "Other columns stay, and new ones are in effect right after a step",
        shown(
          paca,
          "%s: other columns stay bit for bit, r out numbers differ, and what is merged right after a step is what the step made",
        ),
      ),
      line(
        "Gradients by finite differences, inputs of any number of axes, with and without bias",
        shown(paca, "%s: gradients of P and x by finite differences"),
        beside.layer,
      ),
      line(
        "Of the input r features are kept; the peak falls below LoRA's",
        shown(paca, "%s: of the input the backward pass reads r features, not all"),
        shown(paca, "the peak of eight layers lies below LoRA's of as many parameters by most of their inputs"),
      ),
      line(
        "Files, and the wrong base refused; exact as LoRA",
        matrix.files,
        shown(paca, "another base model is refused; a file of the fork, without norms, is taken"),
        shown(paca, "as LoRA it is exact at rank r"),
      ),
      line(
        "The published autograd function, and 4-bit weights",
        beside.layer,
        shown("compressed-base.test.ts", "over 4-bit weights %s %j is what it is over the weights they stand for"),
      ),
      line(
        "Parameter counts",
        shown(paca, "LLaMA-2-7B: r 16 has 21,757,952 parameters"),
        shown("counts.test.ts", "LLaMA-2-7B, seven linears: 2,498,560 per rank"),
      ),
      line("Measured memory beside LoRA's", { claim: "paca-memory" }),
      line("As LoRA of as many parameters, whichever the columns", { claim: "paca-columns" }),
    ],
  },
  {
    title: "Hydra",
    paper: "2309.06922",
    lines: [
      line(
        "The start changes nothing; the sequential branch reads the bias",
        matrix.start,
        shown(hydra, "the sequential branch reads the output with its bias"),
      ),
      line(
        "One branch alone, and an identity layer",
        shown(hydra, "the parallel branch alone is LoRA, bit for bit in the losses"),
        shown(hydra, "the sequential branch alone is a parallel one at an identity layer that follows"),
        shown(hydra, "at an identity layer without bias both branches are the same function with the same gradients"),
      ),
      line(
        "Merging with biases and a factor, where the published function fails",
        shown(
          hydra,
          "with biases and factor 4.5, attention projections and feed-forward layers: the same logits, no node more, and back",
        ),
      ),
      line(
        "Parameter counts of the three presets",
        shown(
          hydra,
          "presets: 239,712 for ViT-B/16 on VTAB, 331,776 for RoBERTa-base on GLUE, 147,504 for CLIP ViT-B/32 on ELEVATER",
        ),
      ),
      line(
        "As LoRA of both ranks",
        shown(hydra, "as LoRA of rank r_p + r_s it is exact where no bias changes, and refused where one does"),
      ),
      line("The VTAB and the ELEVATER layer, all eight gradients", beside.layer, matrix.gradients),
      line("Both branches beside either alone and LoRA of as many parameters", { claim: "hydra-branches" }),
      line("The same on images: a ViT that is pre-trained here, tuned on other classes", { claim: "hydra-images" }),
    ],
  },
];
