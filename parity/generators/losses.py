"""Values and input gradients of every loss: golden/losses.json.

Inputs are float32 numbers, arithmetic is float64, so a reader may compare to the limits of float32.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .common import GOLDEN, generator, save_json, versions

Tensors = dict[str, torch.Tensor]
SEED = 500
CASES: list[dict[str, Any]] = []


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return (torch.randn(shape, generator=generator(SEED + seed)) * scale).float()


def case(name: str, loss: str, inputs: Tensors, labels: Tensors, options: dict[str, Any], f: Callable[[Tensors], torch.Tensor]) -> None:
    """Adds one case: `f` maps float64 inputs and labels to the loss; gradients are taken with respect to `inputs`."""
    leaves = {key: value.double().requires_grad_() for key, value in inputs.items()}
    constants = {key: value.double() if value.is_floating_point() else value for key, value in labels.items()}
    value = f(leaves | constants)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    shown = {key: described(tensor) for key, tensor in (inputs | labels).items()}
    CASES.append(
        {
            "name": name,
            "loss": loss,
            "options": options,
            "inputs": shown,
            "value": value.item(),
            "gradients": {key: gradient.flatten().tolist() for key, gradient in zip(leaves, gradients, strict=True)},
        }
    )


def described(tensor: torch.Tensor) -> dict[str, Any]:
    return {"dtype": "int64" if tensor.dtype == torch.int64 else "float32", "shape": list(tensor.shape), "data": tensor.flatten().tolist()}


def cross_entropies() -> None:
    rows, labels = normal(7, 5, scale=2, seed=1), torch.tensor([2, 0, -100, 4, 1, -100, 3])
    weights = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0])
    for name, options in {
        "plain": {},
        "label-smoothing": {"label_smoothing": 0.1},
        "class-weights": {"weight": weights},
        "class-weights-and-label-smoothing": {"weight": weights, "label_smoothing": 0.2},
        "sum": {"reduction": "sum"},
    }.items():
        shown = {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
        exact = {key: value.double() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
        case(
            f"cross-entropy/{name}",
            "cross_entropy",
            {"logits": rows},
            {"labels": labels},
            shown,
            lambda t, o=exact: F.cross_entropy(t["logits"], t["labels"], **o),
        )
    case(
        "cross-entropy/ignore-index-0",
        "cross_entropy",
        {"logits": rows},
        {"labels": torch.tensor([2, 0, 1, 4, 0, 1, 3])},
        {"ignore_index": 0},
        lambda t: F.cross_entropy(t["logits"], t["labels"], ignore_index=0),
    )
    tokens = torch.tensor([[1, 2, -100], [0, -100, -100]])
    case(
        "cross-entropy/tokens",
        "cross_entropy",
        {"logits": normal(2, 3, 4, seed=2)},
        {"labels": tokens},
        {},
        lambda t: F.cross_entropy(t["logits"].flatten(0, 1), t["labels"].flatten()),
    )
    case(
        "cross-entropy/large-logits",
        "cross_entropy",
        {"logits": torch.tensor([[120.0, -90.0, 3.0], [-300.0, -301.0, -299.5]])},
        {"labels": torch.tensor([1, 2])},
        {},
        lambda t: F.cross_entropy(t["logits"], t["labels"]),
    )


def binary_and_squares() -> None:
    logits = normal(4, 3, scale=3, seed=3)
    logits[0, 0], logits[3, 2] = 40.0, -40.0
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    soft = torch.rand((4, 3), generator=generator(SEED + 4))
    positive = torch.tensor([0.5, 2.0, 4.0])
    bce = F.binary_cross_entropy_with_logits
    case("bce-with-logits/plain", "bce_with_logits", {"logits": logits}, {"labels": labels}, {}, lambda t: bce(t["logits"], t["labels"]))
    case("bce-with-logits/soft-labels", "bce_with_logits", {"logits": logits}, {"labels": soft}, {}, lambda t: bce(t["logits"], t["labels"]))
    case(
        "bce-with-logits/pos-weight",
        "bce_with_logits",
        {"logits": logits},
        {"labels": labels},
        {"pos_weight": positive.tolist()},
        lambda t: bce(t["logits"], t["labels"], pos_weight=positive.double()),
    )
    for name, shape in {"vector": (6,), "matrix": (4, 3)}.items():
        case(
            f"mse/{name}",
            "mse",
            {"predictions": normal(*shape, seed=5)},
            {"labels": normal(*shape, seed=6)},
            {},
            lambda t: F.mse_loss(t["predictions"], t["labels"]),
        )


def pairs_and_triplets() -> None:
    a, b, c = normal(5, 8, seed=7), normal(5, 8, seed=8), normal(5, 8, seed=9)
    b = (0.6 * a + 0.8 * b).float()
    signs = torch.tensor([1.0, -1, 1, -1, -1])
    for margin in (0.0, 0.3):
        case(
            f"cosine-embedding/margin-{margin}",
            "cosine_embedding",
            {"first": a, "second": b},
            {"labels": signs},
            {"margin": margin},
            lambda t, m=margin: F.cosine_embedding_loss(t["first"], t["second"], t["labels"], margin=m),
        )
    scores = torch.tensor([0.9, 0.1, 0.5, -0.4, 0.0])
    case(
        "cosine-similarity-mse",
        "cosine_similarity_mse",
        {"first": a, "second": b},
        {"labels": scores},
        {},
        lambda t: F.mse_loss(F.cosine_similarity(t["first"], t["second"]), t["labels"]),
    )
    for margin in (1.0, 0.2):
        case(
            f"triplet-margin/euclidean-{margin}",
            "triplet_margin",
            {"anchors": a, "positives": b, "negatives": c},
            {},
            {"margin": margin, "distance": "euclidean", "eps": 1e-6},
            lambda t, m=margin: nn.TripletMarginLoss(margin=m)(t["anchors"], t["positives"], t["negatives"]),
        )
    cosine_distance = lambda x, y: 1 - F.cosine_similarity(x, y)  # noqa: E731
    case(
        "triplet-margin/cosine",
        "triplet_margin",
        {"anchors": a, "positives": b, "negatives": c},
        {},
        {"margin": 0.5, "distance": "cosine"},
        lambda t: nn.TripletMarginWithDistanceLoss(distance_function=cosine_distance, margin=0.5)(t["anchors"], t["positives"], t["negatives"]),
    )


def multiple_negatives(t: Tensors, temperature: float, similarity: str, symmetric: bool) -> torch.Tensor:
    """Anchor i has to choose its own positive among all positives, then all hard negatives."""
    unit = (lambda x: F.normalize(x, dim=-1)) if similarity == "cosine" else (lambda x: x)
    anchors, positives = unit(t["anchors"]), unit(t["positives"])
    candidates = torch.cat([positives, unit(t["hard_negatives"])]) if "hard_negatives" in t else positives
    own = torch.arange(len(anchors))
    loss = F.cross_entropy(anchors @ candidates.T / temperature, own)
    if symmetric:
        loss = (loss + F.cross_entropy(positives @ anchors.T / temperature, own)) / 2
    return loss


def contrastive() -> None:
    anchors, other, negatives = normal(4, 6, seed=10), normal(4, 6, seed=11), normal(3, 6, seed=12)
    pair = {"anchors": anchors, "positives": (0.5 * anchors + 0.9 * other).float()}
    for name, inputs, options in (
        ("plain", pair, {"temperature": 0.05, "similarity": "cosine", "symmetric": False}),
        ("symmetric", pair, {"temperature": 0.05, "similarity": "cosine", "symmetric": True}),
        ("temperature-0.5", pair, {"temperature": 0.5, "similarity": "cosine", "symmetric": False}),
        ("dot", pair, {"temperature": 1.0, "similarity": "dot", "symmetric": False}),
        ("hard-negatives", pair | {"hard_negatives": negatives}, {"temperature": 0.1, "similarity": "cosine", "symmetric": False}),
        ("hard-negatives-symmetric", pair | {"hard_negatives": negatives}, {"temperature": 0.1, "similarity": "cosine", "symmetric": True}),
    ):
        case(f"multiple-negatives/{name}", "multiple_negatives", inputs, {}, options, lambda t, o=options: multiple_negatives(t, **o))


def make() -> None:
    CASES.clear()
    cross_entropies()
    binary_and_squares()
    pairs_and_triplets()
    contrastive()
    save_json(GOLDEN / "losses.json", {"cases": CASES, "versions": versions()})
