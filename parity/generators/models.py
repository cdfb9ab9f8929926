"""Tiny models with random weights in the Hugging Face layout: golden/models/<name>/{config.json, model.safetensors}."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from .common import MODELS, randomise

LABELS = {0: "low", 1: "middle", 2: "high"}
BERT = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=48,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    id2label=LABELS,
)
# A RoBERTa position of a token is its index among the real tokens plus padding_idx (1) plus 1.
ROBERTA = BERT | dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1, max_position_embeddings=50)


@dataclass(frozen=True)
class Tiny:
    """One tiny model. `task` says what its loss is, `inputs` what it is fed, `targets` where LoRA goes."""

    model_class: type
    config: Any
    seed: int
    task: str  # sequence, token, embedding, causal
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


ENCODER = ("input_ids", "attention_mask")
WITH_TYPES = (*ENCODER, "token_type_ids")

TINY: dict[str, Tiny] = {
    "bert": Tiny(hf.BertForSequenceClassification, hf.BertConfig(**BERT), 11, "sequence", WITH_TYPES, ("query", "value")),
    "bert-token": Tiny(hf.BertForTokenClassification, hf.BertConfig(**BERT), 12, "token", WITH_TYPES, ("query", "value")),
    "bert-model": Tiny(hf.BertModel, hf.BertConfig(**BERT), 13, "embedding", WITH_TYPES, ("query", "value")),
    "distilbert": Tiny(
        hf.DistilBertForSequenceClassification,
        hf.DistilBertConfig(
            vocab_size=120,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=48,
            dropout=0.0,
            attention_dropout=0.0,
            seq_classif_dropout=0.0,
            id2label=LABELS,
        ),
        14,
        "sequence",
        ENCODER,
        ("q_lin", "v_lin"),
    ),
    "roberta": Tiny(hf.RobertaForSequenceClassification, hf.RobertaConfig(**ROBERTA), 15, "sequence", ENCODER, ("query", "value")),
    "xlm-roberta": Tiny(
        hf.XLMRobertaForSequenceClassification, hf.XLMRobertaConfig(**ROBERTA), 16, "sequence", ENCODER, ("query", "value")
    ),
    "gpt2": Tiny(
        hf.GPT2LMHeadModel,
        hf.GPT2Config(
            vocab_size=120,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_inner=64,
            n_positions=48,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
        ),
        17,
        "causal",
        ENCODER,
        ("c_attn",),
    ),
    "llama": Tiny(
        hf.LlamaForCausalLM,
        hf.LlamaConfig(
            vocab_size=120,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=48,
            bos_token_id=0,
            eos_token_id=2,
            use_cache=False,
        ),
        18,
        "causal",
        ENCODER,
        ("q_proj", "v_proj"),
    ),
}


def load(name: str, **options: Any) -> torch.nn.Module:
    """The saved tiny model in evaluation mode, float32; its path is not remembered, so it reaches no adapter file."""
    model = TINY[name].model_class.from_pretrained(MODELS / name, dtype=torch.float32, **options)
    model.name_or_path = name
    model.config._name_or_path = name
    return model.eval()


def sort_tensors(path: Path) -> None:
    """Rewrites a safetensors file with its tensors in the order of their names: the same bytes on every run."""
    tensors = load_file(path)
    save_file({key: tensors[key].clone() for key in sorted(tensors)}, path, metadata={"format": "pt"})


def make() -> None:
    for name, tiny in TINY.items():
        folder = MODELS / name
        if folder.exists():
            shutil.rmtree(folder)
        torch.manual_seed(tiny.seed)
        model = tiny.model_class(tiny.config).float()
        randomise(model, tiny.seed)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        sort_tensors(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        size = (folder / "model.safetensors").stat().st_size
        print(f"  models/{name}  {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters, {size:,} bytes")
