"""A training curve of 50 steps, LoRA and classifier on models/bert: golden/training-curve.safetensors and .json."""

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import get_scheduler

from .common import GOLDEN, generator, relative_difference, save_json, save_tensors, versions
from .models import TINY, load

Tensors = dict[str, torch.Tensor]

BASE, SEED = "bert", 400
STEPS, WARMUP, BATCH, SHORTEST, LONGEST = 50, 5, 8, 3, 24
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 1e-3, 0.01, 1.0
CONFIG = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["query", "value"], modules_to_save=["classifier"])


def make_batches() -> list[Tensors]:
    """Random tokens, padded on the right to the longest row of their batch; most tokens of a row, and its first, are drawn
    from the third of the vocabulary that belongs to its class, so that there is something to learn."""
    source = generator(SEED)
    third = (TINY[BASE].config.vocab_size - 3) // 3
    batches = []
    for _ in range(STEPS):
        lengths = torch.randint(SHORTEST, LONGEST + 1, (BATCH, 1), generator=source)
        tokens = int(lengths.max())
        mask = (torch.arange(tokens) < lengths).long()
        labels = torch.randint(0, 3, (BATCH,), generator=source)
        other = torch.randint(0, 3, (BATCH, tokens), generator=source)
        follows = torch.rand((BATCH, tokens), generator=source) < 0.8
        follows[:, 0] = True
        chosen = torch.where(follows, labels[:, None], other)
        ids = (3 + third * chosen + torch.randint(0, third, (BATCH, tokens), generator=source)) * mask
        batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids), "labels": labels})
    return batches


def start() -> PeftModel:
    """A from peft's initialiser, B zero: what a new adapter looks like."""
    torch.manual_seed(SEED)
    return get_peft_model(load(BASE), LoraConfig(**CONFIG))


def train(model: PeftModel, batches: list[Tensors]) -> dict[str, list[float]]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=WEIGHT_DECAY)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
    model.train()
    record: dict[str, list[float]] = {"losses": [], "learning_rates": [], "gradient_norms": []}
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        loss = F.cross_entropy(model(**inputs).logits, batch["labels"])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        record["losses"].append(loss.item())
        record["learning_rates"].append(schedule.get_last_lr()[0])
        record["gradient_norms"].append(norm.item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return record


def state(model: PeftModel) -> Tensors:
    return {key: value.detach().clone() for key, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()}


def make() -> None:
    batches = make_batches()
    model, exact = start(), start().double()
    initial = state(model)
    record, exact_record = train(model, batches), train(exact, batches)
    final = state(model)
    tensors = {f"initial.{key}": value for key, value in initial.items()} | {f"final.{key}": value for key, value in final.items()}
    tensors |= {key: torch.tensor(values, dtype=torch.float64) for key, values in record.items()}
    for step, batch in enumerate(batches):
        tensors |= {f"batch.{step:02}.{key}": value for key, value in batch.items()}
    save_tensors(GOLDEN / "training-curve.safetensors", tensors)
    update = {key: final[key] - initial[key] for key in final}
    exact_update = {key: value - initial[key].double() for key, value in state(exact).items()}
    losses, exact_losses = torch.tensor(record["losses"]), torch.tensor(exact_record["losses"])
    save_json(
        GOLDEN / "training-curve.json",
        {
            "model": f"models/{BASE}",
            "config": {"peft_type": "LORA", **CONFIG},
            "optimizer": {"type": "AdamW", "lr": LEARNING_RATE, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": WEIGHT_DECAY},
            "schedule": {"type": "linear", "num_warmup_steps": WARMUP, "num_training_steps": STEPS},
            "max_gradient_norm": MAX_NORM,
            "steps": STEPS,
            "clipped_steps": sum(norm > MAX_NORM for norm in record["gradient_norms"]),
            "mean_loss_first_10": sum(record["losses"][:10]) / 10,
            "mean_loss_last_10": sum(record["losses"][-10:]) / 10,
            "float32_to_float64": {
                "largest_loss_difference": float((losses - exact_losses).abs().max()),
                "relative_difference_of_update": relative_difference(update, exact_update),
            },
            "versions": versions(),
        },
    )
