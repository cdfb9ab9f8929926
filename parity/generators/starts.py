"""LoRA starts that need data, as peft makes them on the tiny BERT: golden/starts/<name>.safetensors and .json."""

import re
import warnings
from typing import Any
from unittest import mock

import torch
from peft import EvaConfig, LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import initialize_lora_eva_weights
from peft.tuners.lora.loraga import preprocess_loraga

from .common import GOLDEN, save_json, save_tensors, versions
from .inputs import make_inputs, model_inputs
from .models import load

BASE = "bert"
# Query and value see the same input; the two feed-forward modules are [64, 32] and [32, 64].
MODULES = ["query", "value", "intermediate.dense", "output.dense"]
# peft whitens the components of an input in place, and so once more for every further module that has it: here each has its own.
APART = ["query", "output.dense"]
PADDED = [make_inputs(BASE, seed) for seed in (330, 331, 332)]
# peft's covariances are of batches of one sample.
SINGLE = [make_inputs(BASE, 340 + i, (length,)) for i, length in enumerate((11, 9, 11, 7, 10, 11))]

# Ranks of EVA are such that peft's random sketches (twice the components) are as wide as the modules, and so exact.
EVA: dict[str, LoraConfig] = {
    "eva": LoraConfig(init_lora_weights="eva", r=8, lora_alpha=12, eva_config=EvaConfig(rho=2.0, tau=0.97)),
    "eva-whiten": LoraConfig(init_lora_weights="eva", r=16, lora_alpha=8, eva_config=EvaConfig(rho=1.0, tau=0.9, whiten=True)),
    "eva-alpha": LoraConfig(init_lora_weights="eva", r=8, lora_alpha=12, rank_pattern={"query": 12}, eva_config=EvaConfig(rho=2.0, tau=0.97, adjust_scaling_factors=False)),
}
# Few directions: those of small singular values are not determined in float32.
GA: dict[str, LoraConfig] = {
    "lora-ga": LoraConfig(init_lora_weights="lora_ga", r=3, lora_alpha=12, lora_ga_config=LoraGAConfig()),
    "lora-ga-a2rbr-gd": LoraConfig(init_lora_weights="lora_ga", r=3, lora_alpha=12, lora_ga_config=LoraGAConfig(direction="A2rBr", scale="gd_scale")),
    "lora-ga-arbr-weight": LoraConfig(
        init_lora_weights="lora_ga", r=3, lora_alpha=12, use_rslora=True, lora_ga_config=LoraGAConfig(direction="ArBr", scale="weight_svd")
    ),
    "lora-ga-unit": LoraConfig(init_lora_weights="lora_ga", r=2, lora_alpha=4, lora_ga_config=LoraGAConfig(direction="ArB2r", scale="unit")),
}
CORDA: dict[str, LoraConfig] = {
    "corda-ipm": LoraConfig(init_lora_weights="corda", r=4, lora_alpha=6, corda_config=CordaConfig(corda_method="ipm")),
    "corda-kpm": LoraConfig(init_lora_weights="corda", r=4, lora_alpha=6, corda_config=CordaConfig(corda_method="kpm")),
}


def exact_svd(matrix: torch.Tensor, q: int, niter: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """In the place of torch.svd_lowrank, whose sketch is drawn at random and inexact."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, :q].float(), s[:q].float(), vh[:q].T.float()


def without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def eva(config: LoraConfig) -> PeftModel:
    model = get_peft_model(load(BASE).eval(), config)
    batches = [model_inputs(BASE, inputs) for inputs in PADDED]
    initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    return model


def lora_ga(config: LoraConfig) -> PeftModel:
    model = without_dropout(load(BASE))

    def train_step() -> None:
        for inputs in PADDED:
            model(**model_inputs(BASE, inputs), labels=inputs["labels"]).loss.backward()

    preprocess_loraga(model, config, train_step)
    with mock.patch.object(torch, "svd_lowrank", exact_svd):
        return get_peft_model(model, config)


def corda(config: LoraConfig) -> PeftModel:
    model = load(BASE).eval()

    def run_model() -> None:
        for inputs in SINGLE:
            model(**model_inputs(BASE, inputs))

    preprocess_corda(model, config, run_model=run_model)
    return get_peft_model(model, config)


def factors(model: PeftModel) -> dict[str, torch.Tensor]:
    """A and B of every adapted module, by "A.<module>" and "B.<module>"."""
    found = {}
    for name, parameter in model.named_parameters():
        match = re.fullmatch(r"base_model\.model\.(.*)\.lora_([AB])\.default\.weight", name)
        if match:
            found[f"{match[2]}.{match[1]}"] = parameter
    return found


def options(config: LoraConfig) -> dict[str, Any]:
    fields = ("r", "lora_alpha", "use_rslora", "rank_pattern", "init_lora_weights", "eva_config", "lora_ga_config", "corda_config")
    values = {field: getattr(config, field) for field in fields}
    return {field: value if not hasattr(value, "__dict__") else dict(vars(value)) for field, value in values.items() if value is not None}


def make() -> None:
    for kind, configs, batches in ((eva, EVA, PADDED), (lora_ga, GA, PADDED), (corda, CORDA, SINGLE)):
        for number, (name, config) in enumerate(configs.items()):
            torch.manual_seed(600 + number)
            modules = APART if name == "eva-whiten" else MODULES
            config.target_modules = list(modules)
            given = options(config)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = kind(config)
            tensors = factors(model)
            if kind is eva:
                tensors = {key: value for key, value in tensors.items() if key.startswith("A.")}
            inputs = {f"batch.{i}.{key}": value for i, batch in enumerate(batches) for key, value in batch.items()}
            save_tensors(GOLDEN / "starts" / f"{name}.safetensors", tensors | inputs)
            made = model.peft_config["default"]
            result = {"rank_pattern": made.rank_pattern, "alpha_pattern": made.alpha_pattern}
            save_json(
                GOLDEN / "starts" / f"{name}.json",
                {"model": f"models/{BASE}", "batches": len(batches), "target_modules": modules, "config": given, "result": result, "versions": versions()},
            )
