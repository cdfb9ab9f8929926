import { line, matrix, type PaperLines, shown } from "./paper-lines.ts";

const tri = "tri-adapt-lora.test.ts";
const triGrowth = "tri-adapt-growth.test.ts";
const core = "packages/core/src";
const density = `${core}/losses/density.test.ts`;
const penalty = `${core}/train/density-penalty.test.ts`;
const search = `${core}/train/search/module-search.test.ts`;
const table = `${core}/train/search/module-table.test.ts`;

export const schedulePapers: readonly PaperLines[] = [
  {
    title: "TriAdaptLoRA",
    paper: "2501.08008",
    lines: [
      line("Every start is the identity", shown(tri, "%j is the identity, to the bit"), matrix.start),
      line(
        "Growth changes the scale and nothing else, and with a constant scale or rescaling not even that",
        shown(
          triGrowth,
          "with C = 0 it changes nothing but the scale, and not even that where it is constant or made up for",
        ),
      ),
      line("Starts without gradients are refused", shown(tri, "%s is refused, because its gradients are zero")),
      line("With C = I it is LoRA", shown(tri, "C = I and alpha = r: LoRA of scale 1")),
      line(
        "Both parts of the diagonal blocks move alike, and nothing outside the blocks does",
        shown(tri, "its tensors outside the blocks stay zero, and parts of the diagonal blocks move alike"),
        shown(triGrowth, "gradients outside the pattern are cleared"),
      ),
      line(
        "How many modules grow, which, when, and to what total",
        shown(triGrowth, "how many modules grow: linear, non-linear, at least one, at most all"),
        shown(triGrowth, "three modules with given scores: threshold and ties"),
        shown(
          triGrowth,
          "none before the warm-up is over, between intervals, and after the target; the total exceeds it by less than a block each",
        ),
      ),
      line(
        "The score is an increase, and what growth does to it",
        shown(triGrowth, "the score is the increase of |C| per block since the last look"),
      ),
      line(
        "Parameters of a growth history; the LoRA that it equals",
        shown(tri, "parameters follow the growth history"),
        shown(tri, "has its ranks in the config, is counted, read back from blocks, and is a LoRA"),
      ),
      line(
        "Resume, and moments of blocks that join",
        matrix.resume,
        shown(
          `${core}/optim/grown-entries.test.ts`,
          "new entries learn like a parameter that joins, old ones go on (schedule %s)",
        ),
      ),
      line(
        "The authors' layer over three growths beside PyTorch",
        shown(triGrowth, "losses of eight steps with three growths, scores, and the change at the end"),
      ),
      line(
        "Beside LoRA of the same total rank and growth at random modules",
        { claim: "tri-adapt-pairs" },
        { claim: "tri-adapt-growth" },
        { claim: "tri-adapt-late-growth" },
      ),
    ],
  },
  {
    title: "DEFT",
    paper: "2402.01911",
    lines: [
      line(
        "Weight 0 changes nothing, to the bit",
        shown(penalty, "weight 0 leaves graph, losses and weights as they are; a weight lowers the density"),
      ),
      line(
        "The surrogate's values and slopes",
        shown(
          density,
          "value and slope at 0, at sqrt(eps), and far away; the slope of large activations keeps its digits",
        ),
      ),
      line("The loss of three layers beside PyTorch", shown(density, "%s, rows %s")),
      line(
        "Layers weigh the same; encoder and decoder are added up",
        shown(density, "every layer weighs the same, whatever its width"),
        shown(penalty, "encoder and decoder are added up, not averaged"),
      ),
      line("Padding counts, or does not", shown(density, "padding counts unless a mask leaves it out")),
      line(
        "The metric counts exact zeros",
        shown(density, "the exact density counts zeros, of either sign, and nothing that is merely small"),
        shown(penalty, "of ReLU it is the share of positive inputs, over all samples"),
      ),
      line("Any method, and quantised bases: only the adapter gets gradients", shown(penalty, "%s, %s")),
      line(
        "The right activations, of many architectures and exports",
        shown(`${core}/adapters/find-activations.golden.test.ts`, "poolers and heads are no feed-forward blocks"),
        shown(
          `${core}/adapters/find-activations.golden.test.ts`,
          "a gated block has the product of activation and up-projection behind its activation",
        ),
      ),
      line("Density and accuracy with ReLU and GELU, over the penalty's weight", { claim: "deft-density" }),
    ],
  },
  {
    title: "DiffoRA",
    paper: "2502.08905",
    lines: [
      line("Open gates are LoRA, closed ones the base", shown(search, "all 1: LoRA to the bit; all 0: the base")),
      line(
        "The gradient of gates, and none while B is 0",
        shown(search, "%s: gradients of the logits, and none while B is 0"),
      ),
      line(
        "Without a jump into the second stage; gates folded into the kept modules",
        shown(search, "weights and gates see different samples; the kept modules go on where they are"),
      ),
      line(
        "Discretisation: both selections, ties, rounding",
        shown(table, "the largest gates are kept; equal ones by layer, then by module; halves are rounded up"),
      ),
      line(
        "Weights and gates move in their own turns, on their own samples",
        shown(search, "a turn moves its own parameters and no others, to the bit"),
        shown(search, "weights and gates see different samples; the kept modules go on where they are"),
      ),
      line(
        "The second order",
        shown(
          `${core}/train/unrolled-gradient.test.ts`,
          "looks one step of the inner problem ahead, and leaves the weights as they were",
        ),
      ),
      line(
        "Exact resume inside the search",
        shown(search, "stopped and taken up again it finds the same, bit for bit, also one step ahead"),
      ),
      line("The written adapter in peft", { elsewhere: "`npm run parity -- diffora`" }),
      line("Planted modules are found", { claim: "diffora-planted" }),
      line("Beside LoRA of half the rank and LoRA at random modules", { claim: "diffora-modules" }),
    ],
  },
];
