"""Times one epoch of LoRA fine-tuning with transformers.Trainer + peft on the CPU and prints one JSON line.

    python bench/pytorch/epoch.py --model apps/examples/models/wordnet-bert --data <folder> [--best] [--compile]

Reads train.jsonl and validation.jsonl (text, label) and settings.json from the folder. Timed is everything after the
imports: loading, tokenising, training for one epoch, evaluation. Without --best the Trainer's defaults hold, apart from
batch size, learning rate and loss, which both sides share; --best groups samples by length, computes in bfloat16 and
evaluates in larger batches.
"""

import argparse
import inspect
import json
import os
import tempfile
import time
from pathlib import Path

from step import cuda_library_mb, peak_mb


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times one epoch of transformers.Trainer + peft.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--best", action="store_true", help="grouping by length, bfloat16, larger evaluation batches")
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.data)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))

    start = time.perf_counter()
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)

    def rows(name: str) -> list[dict]:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        samples = [json.loads(line) for line in lines]
        encoded = tokenizer([sample["text"] for sample in samples], truncation=True)
        return [
            {**{key: encoded[key][i] for key in encoded}, "labels": settings["labels"].index(sample["label"])}
            for i, sample in enumerate(samples)
        ]

    train, validation = rows("train.jsonl"), rows("validation.jsonl")
    # The checkpoint is stored in half precision, in which transformers would also compute.
    model = AutoModelForSequenceClassification.from_pretrained(
        arguments.model, num_labels=len(settings["labels"]), dtype=torch.float32
    )
    model = get_peft_model(
        model,
        LoraConfig(
            r=settings["r"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["dropout"],
            target_modules=settings["targetModules"],
            # The checkpoint has no pooler: it is trained as a whole, like the head, and on the other side too.
            modules_to_save=["classifier", "pooler"],
            exclude_modules=r".*pooler.*",
            task_type="SEQ_CLS",
        ),
    )
    options = {
        "per_device_train_batch_size": settings["batchSize"],
        "num_train_epochs": 1,
        "seed": arguments.seed,
        "learning_rate": settings["learningRate"],
        "label_smoothing_factor": settings["labelSmoothing"],
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "no",
    }
    if arguments.best:
        known = inspect.signature(TrainingArguments).parameters
        grouped = {"group_by_length": True} if "group_by_length" in known else {"train_sampling_strategy": "group_by_length"}
        options |= {"bf16": True, "per_device_eval_batch_size": 64, "dataloader_pin_memory": False, **grouped}
    if arguments.compile:
        options["torch_compile"] = True

    def accuracy(prediction) -> dict:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}

    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=output, **options),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy,
        )
        trainer.train()
    seconds = time.perf_counter() - start
    evaluated = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry]
    result = {
        "seconds": round(seconds, 3),
        "peakMb": round(peak_mb() - cuda_library_mb(), 1),
        "accuracy": evaluated[-1]["eval_accuracy"],
        "trainableParameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
