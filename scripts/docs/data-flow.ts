/** Colours of the picture on GitHub's light and dark pages. */
export const themes = {
  light: {
    text: "#1f2328",
    faint: "#59636e",
    line: "#818b98",
    box: "#f6f8fa",
    model: "#0969da",
    data: "#1a7f37",
    file: "#8250df",
  },
  dark: {
    text: "#f0f6fc",
    faint: "#9198a1",
    line: "#656c76",
    box: "#151b23",
    model: "#4493f8",
    data: "#3fb950",
    file: "#ab7df8",
  },
} as const;

type Theme = (typeof themes)[keyof typeof themes];
type Kind = "model" | "data" | "file";

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly kind: Kind;
  readonly title: string;
  readonly lines: readonly string[];
}

const HEIGHT = 66;

const boxes: readonly Box[] = [
  { x: 16, y: 30, width: 168, kind: "model", title: "model", lines: ["model.onnx, or", "config + safetensors"] },
  { x: 216, y: 30, width: 136, kind: "model", title: "graph", lines: ["operators, shapes", "frozen weights"] },
  { x: 384, y: 30, width: 152, kind: "model", title: "+ adapter", lines: ["at the chosen", "modules"] },
  { x: 568, y: 30, width: 152, kind: "model", title: "+ loss", lines: ["of the task", ""] },
  {
    x: 752,
    y: 30,
    width: 172,
    kind: "model",
    title: "+ gradients",
    lines: ["of adapter tensors only,", "as ONNX operators"],
  },
  { x: 16, y: 192, width: 168, kind: "data", title: "data set", lines: ["JSON Lines, CSV,", "Parquet, folders"] },
  { x: 216, y: 192, width: 136, kind: "data", title: "batches", lines: ["what the", "optimiser sees"] },
  { x: 384, y: 192, width: 152, kind: "data", title: "micro-batches", lines: ["similar lengths,", "some 512 tokens"] },
  { x: 588, y: 192, width: 132, kind: "model", title: "ONNX Runtime", lines: ["one graph,", "one session"] },
  { x: 784, y: 192, width: 120, kind: "model", title: "optimiser", lines: ["AdamW, SGD,", "checkpoints"] },
  {
    x: 384,
    y: 352,
    width: 168,
    kind: "file",
    title: "adapter folder",
    lines: ["safetensors + config,", "read by peft"],
  },
  { x: 570, y: 352, width: 168, kind: "file", title: "merged.onnx", lines: ["run by", "transformers.js"] },
  {
    x: 756,
    y: 352,
    width: 168,
    kind: "file",
    title: "swappable.onnx",
    lines: ["adapters as inputs,", "many over one base"],
  },
];

/** Arrows as paths of horizontal and vertical lines. */
const arrows: readonly string[] = [
  "M184 63H216",
  "M352 63H384",
  "M536 63H568",
  "M720 63H752",
  "M184 225H216",
  "M352 225H384",
  "M536 225H588",
  "M838 96V124H654V192",
  "M720 212H784",
  "M784 240H720",
  "M844 258V318H468V352",
  "M844 318H654V352",
  "M844 318V352",
];

const labels: readonly { readonly x: number; readonly y: number; readonly text: string }[] = [
  { x: 752, y: 204, text: "gradients" },
  { x: 752, y: 254, text: "adapter" },
  { x: 792, y: 162, text: "training process (your event loop is free)" },
];

function drawBox({ x, y, width, kind, title, lines }: Box, theme: Theme): string {
  const middle = x + width / 2;
  const text = lines
    .filter((line) => line !== "")
    .map((line, i) => `<text class="faint" x="${middle}" y="${y + 40 + 16 * i}">${line}</text>`);
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${HEIGHT}" rx="8" fill="${theme.box}" stroke="${theme[kind]}" stroke-width="1.5"/>`,
    `<text class="title" x="${middle}" y="${y + 22}">${title}</text>`,
    ...text,
  ].join("\n");
}

/** The picture of the README: how a model and a data set become an adapter. */
export function dataFlow(name: keyof typeof themes): string {
  const theme = themes[name];
  return [
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 434" width="940" height="434" role="img" aria-labelledby="title">',
    '<title id="title">A model and a data set go through one training graph and become an adapter, a merged and a swappable ONNX file</title>',
    "<style>",
    "text { font: 12.5px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; text-anchor: middle; }",
    `.title { font-weight: 600; font-size: 14px; fill: ${theme.text}; }`,
    `.faint { fill: ${theme.faint}; }`,
    ".label { font-size: 11.5px; }",
    "</style>",
    `<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="${theme.line}"/></marker></defs>`,
    `<rect x="568" y="140" width="356" height="140" rx="10" fill="none" stroke="${theme.line}" stroke-dasharray="4 4"/>`,
    ...arrows.map(
      (path) => `<path d="${path}" fill="none" stroke="${theme.line}" stroke-width="1.5" marker-end="url(#tip)"/>`,
    ),
    ...boxes.map((box) => drawBox(box, theme)),
    ...labels.map(({ x, y, text }) => `<text class="faint label" x="${x}" y="${y}">${text}</text>`),
    "</svg>",
    "",
  ].join("\n");
}
