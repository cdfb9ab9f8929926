"""Adapter folders as peft writes them for models/bert, with inputs and logits: golden/adapters/<name>/."""

import json
import shutil
from pathlib import Path

import torch
from peft import LNTuningConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model

from .common import GOLDEN, generator, is_norm, save_tensors
from .inputs import make_inputs, model_inputs
from .models import load, sort_tensors

BASE = "bert"

CONFIGS: dict[str, PeftConfig] = {
    "lora": LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"]),
    # A rank and an alpha per site, by suffix and by regular expression; scale alpha / sqrt(r).
    "lora-patterns": LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["query", "value", "output.dense"],
        rank_pattern={"query": 2, r".*layer\.1\.attention\.self\.value": 8},
        alpha_pattern={"layer.0.attention.self.value": 3, "output.dense": 10},
    ),
    "lora-all-linear": LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=5, target_modules="all-linear", modules_to_save=["classifier"]),
    "lora-regex": LoraConfig(r=4, lora_alpha=8, target_modules=r".*layer\.1\.(attention\.self\.(query|key)|intermediate\.dense)"),
    "ln-tuning": LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"]),
}


def randomise_trained(model: PeftModel, seed: int) -> None:
    """Moves everything the adapter trains away from where it starts."""
    source = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=source)
            if "lora_A" in name:
                parameter.copy_(0.3 * noise)
            elif "lora_B" in name:
                parameter.copy_(0.15 * noise)
            elif is_norm(name):
                parameter.add_(0.2 * noise)
            else:
                parameter.add_(0.1 * noise)


def tidy(folder: Path) -> None:
    """Sorts what peft keeps as sets, so that the bytes are the same on every run, and drops the empty model card."""
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sort_tensors(folder / "adapter_model.safetensors")


def make() -> None:
    shutil.rmtree(GOLDEN / "adapters", ignore_errors=True)
    for number, (name, config) in enumerate(CONFIGS.items()):
        folder = GOLDEN / "adapters" / name
        torch.manual_seed(300 + number)
        config.base_model_name_or_path = BASE
        model = get_peft_model(load(BASE), config)
        randomise_trained(model, 300 + number)
        model.eval()
        inputs = model_inputs(BASE, make_inputs(BASE, 310 + number))
        with torch.no_grad():
            logits = model(**inputs).logits
            with model.disable_adapter():
                base_logits = model(**inputs).logits
        model.save_pretrained(folder, save_embedding_layers=False)
        tidy(folder)
        # What lies on the disk must give the same logits.
        again = PeftModel.from_pretrained(load(BASE), folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(again(**inputs).logits, logits, rtol=0, atol=0)
        golden = {f"input.{key}": value for key, value in inputs.items()} | {"output.logits": logits, "base.logits": base_logits}
        save_tensors(folder / "golden.safetensors", golden)
