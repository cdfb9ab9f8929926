import { pipeline } from "@huggingface/transformers";
import * as peft from "@onnx-peft/text";

const source = { model: "apps/examples/models/wordnet-bert" }; // or from the hub: { model: "google-bert/bert-base-uncased" }
const rows = await peft.loadTextDataset("runs/definitions.csv");
const classes = peft.buildLabelMap(rows.map((row) => row.label));
const samples = await peft.encodeClassification(await peft.loadTokenizer(source), rows, classes);
const task = peft.sequenceClassification({ labels: classes.labels });
const tuned = await peft.fineTune({
  model: await peft.loadTextModel(source, task.head),
  task,
  train: samples.slice(0, 2000),
  adapter: { r: 8, alpha: 16, targetModules: ["query", "value"] },
  options: { epochs: 3, optimizer: { type: "adamw", learningRate: 2e-3 } },
});
console.log(`${tuned.trainableParameters} parameters trained in ${tuned.training.steps} steps`);
console.log(`accuracy on 300 other definitions: ${(await tuned.evaluate(samples.slice(2000))).accuracy?.toFixed(3)}`);
await peft.saveResult("runs/definitions", tuned); // adapter/ for peft, merged/ for transformers.js, swappable/
await tuned.close();
const classify = await pipeline("text-classification", "runs/definitions/merged", { dtype: "fp32" });
console.log(JSON.stringify(await classify("a feeling of deep sadness")));
