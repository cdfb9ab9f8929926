"""The density loss of DEFT over three layers of different widths, values and gradients: golden/density.json.

A transcription of the loss from the paper's definition (arXiv 2402.01911): f(a) = a^2 / (a^2 + eps), the mean over tokens and units
of every sample and layer, then over samples, then over layers; an encoder's and a decoder's mean are added up. float64.
"""

from typing import Any

import torch

from .common import GOLDEN, generator, save_json, versions

SEED = 900
SAMPLES, TOKENS, WIDTHS = 3, 4, (5, 8, 3)


def surrogate(a: torch.Tensor, eps: float) -> torch.Tensor:
    return a**2 / (a**2 + eps)


def layer_density(a: torch.Tensor, eps: float, mask: torch.Tensor | None) -> torch.Tensor:
    """One number per sample, averaged: padding counts unless a mask leaves it out."""
    of_token = surrogate(a, eps).mean(-1)
    if mask is None:
        return of_token.mean(-1).mean()
    return ((of_token * mask).sum(-1) / mask.sum(-1)).mean()


def density(layers: list[torch.Tensor], eps: float, mask: torch.Tensor | None) -> torch.Tensor:
    return torch.stack([layer_density(a, eps, mask) for a in layers]).mean()


def activations() -> list[torch.Tensor]:
    """Values around sqrt(eps), where the surrogate has its slope, and exact zeros."""
    layers = []
    for i, width in enumerate(WIDTHS):
        a = torch.randn((SAMPLES, TOKENS, width), generator=generator(SEED + i)) * 10.0 ** torch.randint(
            -4, 1, (SAMPLES, TOKENS, width), generator=generator(SEED + 10 + i)
        )
        layers.append(torch.where(torch.rand(a.shape, generator=generator(SEED + 20 + i)) < 0.2, torch.zeros(()), a).float())
    return layers


def make() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    cases: list[dict[str, Any]] = []
    for name, eps, used in (("plain", 1e-7, None), ("masked", 1e-7, mask), ("large-eps", 20.0, None)):
        leaves = [a.double().requires_grad_() for a in activations()]
        value = density(leaves, eps, None if used is None else used.double())
        gradients = torch.autograd.grad(value, leaves)
        cases.append(
            {
                "name": name,
                "eps": eps,
                "mask": None if used is None else used.flatten().tolist(),
                "value": value.item(),
                "gradients": [g.flatten().tolist() for g in gradients],
            }
        )
    layers = [{"shape": list(a.shape), "data": a.flatten().tolist()} for a in activations()]
    save_json(GOLDEN / "density.json", {"layers": layers, "cases": cases, "versions": versions()})
