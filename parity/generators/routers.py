"""Routers over LoRA adapters, Arrow and X-LoRA, over BERT and Llama of the golden models: golden/routers.safetensors and routers.json.

expert<i>.* and general<i>.* are LoRA adapters; <run>.logits what the model gives with the router. Of X-LoRA <run>.classifier.* are the
classifier's tensors, <run>.grad.* the gradients of the mean cross-entropy with the token ids as labels. Arrow runs are BERT's, those of
X-LoRA Llama's: peft loads its experts into models whose modules begin with "model." only.
"""

import tempfile
import warnings
from pathlib import Path

import peft
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.config import ArrowConfig
from peft.tuners.lora.arrow import create_arrow_model

from .adapters import BASE
from .common import GOLDEN, generator, save_json, save_tensors
from .inputs import make_inputs, model_inputs
from .models import load

# create_arrow_model looks at the last part of a module's name only.
ARROW_MODULES = ["query", "value", "dense"]
XLORA_BASE = "llama"
XLORA_MODULES = ["q_proj", "v_proj", "down_proj"]
EXPERTS = {
    "expert0": {"r": 3, "lora_alpha": 6},
    "expert1": {"r": 3, "lora_alpha": 3},
    "expert2": {"r": 3, "lora_alpha": 4, "use_rslora": True},
    "general0": {"r": 3, "lora_alpha": 6},
    "general1": {"r": 3, "lora_alpha": 6},
    "token0": {"r": 2, "lora_alpha": 6, "target_modules": XLORA_MODULES},
    "token1": {"r": 3, "lora_alpha": 3, "target_modules": XLORA_MODULES},
    "token2": {"r": 2, "lora_alpha": 4, "use_rslora": True, "target_modules": XLORA_MODULES},
}
TASKS = ["expert0", "expert1", "expert2"]
TOKEN_TASKS = ["token0", "token1", "token2"]
ARROW_RUNS = {
    "arrow": {"top_k": 2, "router_temperature": 0.7},
    "arrow_all": {"top_k": 3},
    "arrow_one": {"top_k": 1, "router_temperature": 2.0},
    "arrow_gks": {"top_k": 2, "use_gks": True},
}
XLORA_RUNS = {
    "xlora": {},
    "xlora_layerwise": {"layerwise_scalings": True, "softmax_temperature": 0.5},
    "xlora_deep": {"xlora_depth": 3, "xlora_size": 10, "xlora_dropout_p": 0.1, "global_scaling_weight": 2.0},
    "xlora_topk": {"layerwise_scalings": True, "top_k_lora": 2},
    "xlora_topk_softmax": {"top_k_lora": 2, "enable_softmax": False, "enable_softmax_topk": True},
}


def write_expert(path: Path, base: str, options: dict, seed: int) -> dict[str, torch.Tensor]:
    """A LoRA adapter whose products have one direction far above the others: peft's power iteration then finds it."""
    model = get_peft_model(load(base), LoraConfig(base_model_name_or_path=base, **{"target_modules": ARROW_MODULES, **options}))
    source = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=source))
                if "lora_A" in name:
                    parameter[1:] *= 0.3
    model.save_pretrained(path, save_embedding_layers=False)
    return {name.removeprefix("base_model.model."): tensor for name, tensor in get_peft_model_state_dict(model).items()}


def make() -> None:
    out: dict[str, torch.Tensor] = {}
    inputs = model_inputs(BASE, make_inputs(BASE, 320))
    out |= {f"input.{name}": value for name, value in inputs.items()}
    texts = model_inputs(XLORA_BASE, make_inputs(XLORA_BASE, 321))
    out |= {f"text.{name}": value for name, value in texts.items()}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = {name: str(Path(folder) / name) for name in EXPERTS}
        for number, (name, options) in enumerate(EXPERTS.items()):
            out |= {f"{name}.{key}": t for key, t in write_expert(Path(paths[name]), XLORA_BASE if name.startswith("token") else BASE, options, 700 + number).items()}
        for run, options in ARROW_RUNS.items():
            general = [paths["general0"], paths["general1"]] if options.get("use_gks") else None
            config = ArrowConfig(rng_seed=3, **options)
            model = create_arrow_model(load(BASE), [paths[name] for name in TASKS], config, general).eval()
            with torch.no_grad():
                out[f"{run}.logits"] = model(**inputs).logits
        for number, (run, options) in enumerate(XLORA_RUNS.items()):
            torch.manual_seed(750 + number)
            base = load(XLORA_BASE)
            base.config.use_cache = False
            config = peft.XLoraConfig(
                task_type="CAUSAL_LM",
                hidden_size=base.config.hidden_size,
                adapters={str(i): paths[name] for i, name in enumerate(TOKEN_TASKS)},
                **options,
            )
            model = get_peft_model(base, config).eval()
            classifier = model.base_model.internal_xlora_classifier
            source = generator(750 + number)
            with torch.no_grad():
                for parameter in classifier.parameters():
                    parameter.copy_(0.4 * torch.randn(parameter.shape, generator=source))
            logits = model(**texts).logits
            out[f"{run}.logits"] = logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts["input_ids"].flatten()).backward()
            for name, parameter in classifier.named_parameters():
                out[f"{run}.classifier.{name}"] = parameter
                out[f"{run}.grad.{name}"] = parameter.grad
    save_tensors(GOLDEN / "routers.safetensors", {name: tensor.detach().clone().contiguous() for name, tensor in out.items()})
    experts = {name: {"target_modules": ARROW_MODULES, **options} for name, options in EXPERTS.items()}
    save_json(GOLDEN / "routers.json", {"adapters": experts, "tasks": TASKS, "token_tasks": TOKEN_TASKS, "arrow": ARROW_RUNS, "xlora": XLORA_RUNS})
