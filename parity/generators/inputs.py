"""Inputs of the tiny models: padded batches with labels, drawn from a seed."""

import torch

from .common import generator
from .models import TINY

LENGTHS = (11, 4, 9, 1, 7, 11)


def make_inputs(name: str, seed: int, lengths: tuple[int, ...] = LENGTHS) -> dict[str, torch.Tensor]:
    """int64 tensors [batch, tokens]: input_ids, attention_mask (padding on the right), token_type_ids where the model has them.

    `labels`: class of each row, or of each token with -100 where nothing is to be learnt. The embedding model has none.
    """
    tiny = TINY[name]
    source = generator(seed)
    batch, tokens = len(lengths), max(lengths)
    mask = torch.tensor([[1] * n + [0] * (tokens - n) for n in lengths])
    pad = tiny.config.pad_token_id or 0
    # From 3 upwards: 0 to 2 are special tokens of one model or another, and RoBERTa counts positions by "is not padding".
    ids = torch.randint(3, tiny.config.vocab_size, (batch, tokens), generator=source)
    result = {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask}
    if "token_type_ids" in tiny.inputs:
        # A second segment starts at a random place in each row.
        start = torch.randint(1, tokens, (batch, 1), generator=source)
        result["token_type_ids"] = (torch.arange(tokens) >= start).long() * mask
    if tiny.task == "sequence":
        result["labels"] = torch.randint(0, 3, (batch,), generator=source)
    elif tiny.task == "token":
        labels = torch.randint(0, 3, (batch, tokens), generator=source)
        dropped = torch.rand((batch, tokens), generator=source) < 0.15
        result["labels"] = torch.where((mask == 1) & ~dropped, labels, -100)
    elif tiny.task == "causal":
        dropped = torch.rand((batch, tokens), generator=source) < 0.15
        result["labels"] = torch.where((mask == 1) & ~dropped, result["input_ids"], -100)
    return result


def model_inputs(name: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: inputs[key] for key in TINY[name].inputs}
