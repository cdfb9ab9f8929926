"""Steps of peft's LoRA-FA optimiser on one linear module: golden/lora-fa.json."""

from unittest import mock

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer, lorafa

from .common import GOLDEN, generator, save_json, versions

IN, OUT, STEPS = 6, 4, 6
CONFIGS = {
    "lora": LoraConfig(r=3, lora_alpha=5, target_modules=["0"]),
    "rslora": LoraConfig(r=2, lora_alpha=3, use_rslora=True, target_modules=["0"]),
}
LEARNING_RATE = 0.05


def trajectory(config: peft.LoraConfig, source: torch.Generator) -> dict[str, object]:
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(IN, OUT)), config)
    layer = model.base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        a.copy_(torch.randn(a.shape, generator=source))
        b.copy_(0.2 * torch.randn(b.shape, generator=source))
    optimizer = create_lorafa_optimizer(model, r=config.r, lora_alpha=config.lora_alpha, lr=LEARNING_RATE)
    # So small that it does not matter where it is added.
    optimizer.param_groups[0]["eps"] = 1e-20
    start, gradients, values = b.flatten().tolist(), [], []
    # Without this the projection is rounded to bfloat16 on machines that have it.
    with mock.patch.object(lorafa, "is_bf16_available", lambda: False):
        for _ in range(STEPS):
            gradient = torch.randn(b.shape, generator=source)
            b.grad = gradient.clone()
            optimizer.step()
            gradients.append(gradient.flatten().tolist())
            values.append(b.flatten().tolist())
    assert not a.requires_grad
    options = {"r": config.r, "lora_alpha": config.lora_alpha, "use_rslora": config.use_rslora}
    return {**options, "A": a.flatten().tolist(), "B": start, "gradients": gradients, "values": values}


def make() -> None:
    source = generator(610)
    runs = {name: trajectory(config, source) for name, config in CONFIGS.items()}
    save_json(GOLDEN / "lora-fa.json", {"in": IN, "out": OUT, "learning_rate": LEARNING_RATE, "runs": runs, "versions": versions()})
