"""Optimiser trajectories and learning-rate schedules: golden/optimizers.json and golden/schedules.json."""

from typing import Any

import torch
from transformers import get_scheduler

from .common import GOLDEN, generator, save_json, versions

SIZE, STEPS = 6, 20

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
    "adamw-weight-decay": (torch.optim.AdamW, dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)),
    "adamw-betas-eps": (torch.optim.AdamW, dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.01)),
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd-weight-decay": (torch.optim.SGD, dict(lr=0.1, weight_decay=0.05)),
    "sgd-momentum": (torch.optim.SGD, dict(lr=0.05, momentum=0.9)),
    "sgd-dampening": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01)),
    "sgd-nesterov": (torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
}

# name, warm-up steps, keyword arguments of the schedule
SCHEDULES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "constant": ("constant", 0, {}),
    "constant-with-warmup": ("constant_with_warmup", 7, {}),
    "linear": ("linear", 0, {}),
    "linear-with-warmup": ("linear", 10, {}),
    "cosine": ("cosine", 0, {}),
    "cosine-with-warmup": ("cosine", 10, {}),
    "cosine-one-and-a-half-waves": ("cosine", 5, {"num_cycles": 1.5}),
    "cosine-with-restarts": ("cosine_with_restarts", 10, {"num_cycles": 3}),
    "cosine-with-min-lr": ("cosine_with_min_lr", 10, {"min_lr_rate": 0.1}),
    "polynomial": ("polynomial", 10, {"lr_end": 0.0, "power": 1.0}),
    "polynomial-power-2": ("polynomial", 10, {"lr_end": 1e-4, "power": 2.0}),
    "inverse-sqrt": ("inverse_sqrt", 10, {}),
}
LEARNING_RATE, SCHEDULE_STEPS = 2e-3, 100


def trajectory(kind: type[torch.optim.Optimizer], options: dict[str, Any], start: torch.Tensor, gradients: torch.Tensor) -> list[list[float]]:
    """Parameters after each step, in float64 from float32 numbers."""
    parameter = start.double().clone().requires_grad_()
    optimizer = kind([parameter], **options)
    values = []
    for gradient in gradients.double():
        parameter.grad = gradient.clone()
        optimizer.step()
        values.append(parameter.tolist())
    return values


def learning_rates(name: str, warmup: int, options: dict[str, Any]) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LEARNING_RATE)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=SCHEDULE_STEPS, scheduler_specific_kwargs=options)
    values = []
    for _ in range(SCHEDULE_STEPS):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


def make() -> None:
    source = generator(600)
    start = torch.randn(SIZE, generator=source)
    gradients = torch.randn((STEPS, SIZE), generator=source) * torch.tensor([1, 0.1, 10, 1e-3, 1, 1])
    gradients[:, 5] = 0  # no gradient at all: only weight decay moves it
    gradients[8:12, 4] = 0
    save_json(
        GOLDEN / "optimizers.json",
        {
            "start": start.tolist(),
            "gradients": gradients.tolist(),
            "trajectories": [
                {"name": name, "type": kind.__name__, "options": options, "values": trajectory(kind, options, start, gradients)}
                for name, (kind, options) in OPTIMIZERS.items()
            ],
            "versions": versions(),
        },
    )
    save_json(
        GOLDEN / "schedules.json",
        {
            "learning_rate": LEARNING_RATE,
            "steps": SCHEDULE_STEPS,
            "schedules": [
                {"name": name, "type": kind, "warmup_steps": warmup, "options": options, "values": learning_rates(kind, warmup, options)}
                for name, (kind, warmup, options) in SCHEDULES.items()
            ],
            "versions": versions(),
        },
    )
