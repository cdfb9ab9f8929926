"""Layers of methods that peft does not have, written again in PyTorch from the papers: golden/papers/<method>.json.

Each file has `layers` (one linear layer: output, gradients of the input and of everything trained) and, for some methods, `training`: two linear layers with tanh
between them, mean squared error, some steps of an optimiser. Tensors go by the names that they have in the project's methods.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import scipy.fft
import scipy.linalg
import torch

from .common import GOLDEN, generator, save_json

Tensors = dict[str, torch.Tensor]
Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, Tensors], torch.Tensor]


def rounded(value: torch.Tensor, digits: int = 7) -> list[float]:
    return [float(f"{x:.{digits}g}") for x in value.detach().double().flatten().tolist()]


def tensor(value: torch.Tensor) -> dict[str, Any]:
    return {"dims": list(value.shape), "data": rounded(value)}


class Draw:
    """Numbers with few digits, so that what is in the file is exactly what was computed with."""

    def __init__(self, seed: int) -> None:
        self.source = generator(seed)

    def __call__(self, *shape: int, scale: float = 0.5) -> torch.Tensor:
        values = torch.randn(shape, generator=self.source, dtype=torch.float64) * scale
        return (values * 1000).round() / 1000

    def order(self, n: int) -> torch.Tensor:
        return torch.randperm(n, generator=self.source)


def layer(
    name: str,
    config: dict[str, Any],
    forward: Forward,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    x: torch.Tensor,
    trained: Tensors,
    fixed: Tensors | None = None,
    draw: Draw | None = None,
) -> dict[str, Any]:
    """One case: output, and gradients for a random output gradient."""
    leaves = {key: value.clone().requires_grad_() for key, value in trained.items()}
    given = x.clone().requires_grad_()
    y = forward(given, weight, bias, leaves | (fixed or {}))
    dy = (draw or Draw(7))(*y.shape)
    y.backward(dy)
    gradients = {key: rounded(value.grad) for key, value in leaves.items() if value.grad is not None}
    return {
        "name": name,
        "config": config,
        "weight": tensor(weight),
        "bias": None if bias is None else rounded(bias),
        "x": tensor(x),
        "dy": rounded(dy),
        "tensors": {key: tensor(value) for key, value in (trained | (fixed or {})).items()},
        "y": rounded(y),
        "dx": rounded(given.grad),
        "gradients": gradients,
    }


def base(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


# DyLoRA: the truncation module's form, both factors times sqrt(r_max / b), the product times alpha / r_max.
def dylora_forward(rank: int, alpha: float, frozen: bool) -> Forward:
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
        r_max = t["A"].shape[0]
        first = rank - 1 if frozen else 0
        a = torch.cat([t["A"][:first].detach(), t["A"][first:rank]]) * (r_max / rank) ** 0.5
        b = torch.cat([t["B"][:, :first].detach(), t["B"][:, first:rank]], dim=1) * (r_max / rank) ** 0.5
        return base(x, weight, bias) + (x @ a.T @ b.T) * (alpha / r_max)

    return forward


# What drawRank of the project gives for rMax 4, seed 3, steps 0 to 9.
RANKS = [3, 4, 3, 1, 3, 2, 2, 1, 4, 3]


def make_dylora() -> dict[str, Any]:
    draw = Draw(1)
    layers = []
    for rank in (1, 2, 4):
        mask = torch.tensor([6.0 / rank if k < rank else 0.0 for k in range(4)], dtype=torch.float64)
        case = layer(
            f"rank {rank}", {"rMax": 4, "alpha": 6, "rank": rank}, dylora_forward(rank, 6, False), draw(7, 5), draw(7), draw(3, 5),
            {"A": draw(4, 5), "B": draw(7, 4)}, {"mask": mask},
        )
        layers.append(case)
    cases = [{"config": {"rMax": 4, "alpha": 6, "update": "frozen" if frozen else "prefix"}, "seed": 3, "frozen": frozen} for frozen in (True, False)]
    trainings = []
    for case in cases:
        frozen = case.pop("frozen")
        start = {
            "layer.0.dense.lora_A.weight": draw(4, 5), "layer.0.dense.lora_B.weight": torch.zeros(6, 4, dtype=torch.float64),
            "layer.1.dense.lora_A.weight": draw(4, 6), "layer.1.dense.lora_B.weight": torch.zeros(3, 4, dtype=torch.float64),
        }

        def forward(step: int, i: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, all_: Tensors, frozen: bool = frozen) -> torch.Tensor:
            at = f"layer.{i}.dense.lora_"
            own = {"A": all_[f"{at}A.weight"], "B": all_[f"{at}B.weight"]}
            return dylora_forward(RANKS[step], 6, frozen)(x, weight, bias, own)

        trainings.append(case | {"ranks": RANKS} | training(forward, [(5, 6), (6, 3)], start, {"type": "sgd", "learningRate": 0.1}, 10, draw))
    return {"layers": layers, "trainings": trainings}


def training(
    forward: Callable[..., torch.Tensor], sizes: list[tuple[int, int]], start: Tensors, optimizer: dict[str, Any], steps: int, draw: Draw,
    fixed: Tensors | None = None, weights: list[torch.Tensor] | None = None,
) -> dict[str, Any]:
    """Two layers, tanh between them, mean squared error over all entries; what the tensors are after each optimiser's last step."""
    weights = weights or [draw(o, i) for i, o in sizes]
    biases = [draw(o) for _, o in sizes]
    x, labels = draw(8, sizes[0][0], scale=1.0), draw(8, sizes[-1][1], scale=1.0)
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    rate = optimizer["learningRate"]
    if optimizer["type"] == "sgd":
        update: torch.optim.Optimizer = torch.optim.SGD(leaves.values(), lr=rate)
    else:
        update = torch.optim.AdamW(leaves.values(), lr=rate, weight_decay=optimizer.get("weightDecay", 0.0))
    losses = []
    for step in range(steps):
        hidden = torch.tanh(forward(step, 0, x, weights[0], biases[0], leaves | (fixed or {})))
        y = forward(step, 1, hidden, weights[1], biases[1], leaves | (fixed or {}))
        loss = ((y - labels) ** 2).mean()
        update.zero_grad(set_to_none=False)
        loss.backward()
        for leaf in leaves.values():  # the published codes leave zero gradients, not none
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)
        update.step()
        losses.append(float(f"{loss.item():.9g}"))
    return {
        "optimizer": optimizer,
        "weights": [tensor(w) for w in weights],
        "biases": [rounded(b) for b in biases],
        "x": tensor(x),
        "labels": tensor(labels),
        "start": {name: tensor(value) for name, value in (start | (fixed or {})).items()},
        "losses": losses,
        "end": {name: rounded(value) for name, value in leaves.items()},
    }


# MoS: rows of A and columns of B glued from shards in the order of the list.
def mos_forward(alpha: float, r: int, a: str, b: str, index_a: str, index_b: str) -> Forward:
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
        def glue(pool: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            per_row = len(index) // r
            return torch.stack([torch.cat([pool[int(index[k * per_row + j])] for j in range(per_row)]) for k in range(r)])

        left, right = glue(t[b], t[index_b]).T, glue(t[a], t[index_a])
        return base(x, weight, bias) + (alpha / r) * (x @ right.T @ left.T)

    return forward


def make_mos() -> dict[str, Any]:
    draw = Draw(2)
    # Two modules, e = 2, p = 1, l = 2: 8 shards a pool, 4 public, then two of each module.
    pools = {"A:dense:8x8": draw(8, 4), "B:dense:8x8": draw(8, 4)}
    lists = [{"A": [2, 0, 3, 1, 4, 5], "B": [1, 2, 0, 3, 4, 5]}, {"A": [3, 2, 1, 0, 6, 7], "B": [0, 3, 2, 1, 6, 7]}]
    config = {"r": 3, "equivalentRank": 2, "privateRank": 1, "shardsPerVector": 2, "alpha": 6}
    as_tensor = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    first = {"indexA": as_tensor(lists[0]["A"]), "indexB": as_tensor(lists[0]["B"])}
    forward = mos_forward(6, 3, "A:dense:8x8", "B:dense:8x8", "indexA", "indexB")
    layers = [layer("first module", config, forward, draw(8, 8), draw(8), draw(2, 3, 8), pools, first)]
    start = {"base_model.mos_pool_A:dense:8x8": draw(8, 4), "base_model.mos_pool_B:dense:8x8": torch.zeros(8, 4, dtype=torch.float64)}
    fixed = {f"layer.{i}.dense.mos_index_{side}": as_tensor(lists[i][side]) for i in (0, 1) for side in "AB"}

    def both(_: int, i: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, all_: Tensors) -> torch.Tensor:
        names = [f"base_model.mos_pool_{side}:dense:8x8" for side in "AB"] + [f"layer.{i}.dense.mos_index_{side}" for side in "AB"]
        return mos_forward(6, 3, *names)(x, weight, bias, all_)

    run = training(both, [(8, 8), (8, 8)], start, {"type": "sgd", "learningRate": 0.2}, 5, draw, fixed)
    return {"layers": layers, "trainings": [{"config": config, "seed": 3} | run]}


def make_randlora() -> dict[str, Any]:
    """peft's own layer, r 2, d 5: three bases, n r > d, in both orientations."""
    draw = Draw(3)
    layers = []
    for name, inner, outer in (("tall", 5, 7), ("wide", 7, 5)):
        torch.manual_seed(4)
        model = torch.nn.ModuleDict({"dense": torch.nn.Linear(inner, outer)}).double()
        config = peft.RandLoraConfig(r=2, randlora_alpha=6, target_modules=["dense"], randlora_dropout=0.0)
        adapted = peft.inject_adapter_in_model(config, model)["dense"]
        weight, bias = draw(outer, inner), draw(outer)
        a = adapted.randlora_A["default"].double()
        b = adapted.randlora_B["default"].double()
        trained = {"lambda": draw(*adapted.randlora_lambda["default"].shape), "gamma": draw(*adapted.randlora_gamma["default"].shape)}
        adapted.randlora_A["default"], adapted.randlora_B["default"] = a, b

        def forward(x: torch.Tensor, w: torch.Tensor, c: torch.Tensor | None, t: Tensors, adapted: Any = adapted) -> torch.Tensor:
            # peft's forward reads its parameters from dictionaries of modules: the leaves take their place.
            adapted.base_layer.weight.data, adapted.base_layer.bias.data = w, c
            adapted.randlora_lambda, adapted.randlora_gamma = {"default": t["lambda"]}, {"default": t["gamma"]}
            return adapted(x)

        for attribute in ("randlora_lambda", "randlora_gamma"):
            delattr(adapted, attribute)
        layers.append(layer(name, {"r": 2, "alpha": 6}, forward, weight, bias, draw(4, inner), trained, {"A": a, "B": b}))
    return {"layers": layers}


class PacaFunction(torch.autograd.Function):
    """The columns are written into the weight; of the input only the chosen features are kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: torch.Tensor, weight: torch.Tensor, index: torch.Tensor, scale: float) -> torch.Tensor:
        effective = weight.clone()
        effective[:, index] = scale * p
        ctx.save_for_backward(x[..., index], effective)
        ctx.scale = scale
        return x @ effective.T

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        chosen, effective = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        return grad @ effective, ctx.scale * flat.T @ chosen.reshape(-1, chosen.shape[-1]), None, None, None


def make_paca() -> dict[str, Any]:
    draw = Draw(4)
    layers = []
    for dims, with_bias in (((4, 5), True), ((2, 3, 5), False), ((2, 2, 2, 5), True)):
        index = draw.order(5)[:2]

        def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors, index: torch.Tensor = index) -> torch.Tensor:
            y = PacaFunction.apply(x, t["P"], weight, index, 3.0)
            return y if bias is None else y + bias

        bias = draw(7) if with_bias else None
        name = f"input of {len(dims)} axes, {'with' if with_bias else 'without'} bias"
        layers.append(layer(name, {"r": 2, "alpha": 6}, forward, draw(7, 5), bias, draw(*dims), {"P": draw(7, 2)}, {"indices": index.double()}))
    return {"layers": layers}


def make_loca() -> dict[str, Any]:
    draw = Draw(5)
    # SciPy's transform of every unit spectrum: entry n of it is C[l1_n, :]^T D[l2_n, :].
    rows, columns = [0, 6, 3, 3, 0], [0, 4, 1, 1, 2]  # corners, and two coefficients at one place
    patterns = []
    for i, j in zip(rows, columns, strict=True):
        spectrum = np.zeros((7, 5))
        spectrum[i, j] = 1
        patterns.append(torch.from_numpy(scipy.fft.idctn(spectrum, norm="ortho")))

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
        change = 10.0 * sum(value * pattern for value, pattern in zip(t["a"], patterns, strict=True))
        return base(x, weight + change, bias)

    places = torch.tensor([rows, columns], dtype=torch.float64)
    config = {"nFrequency": 5, "scaling": 10, "learnLocations": False}
    return {"layers": [layer("five coefficients", config, forward, draw(7, 5), draw(7), draw(3, 5), {"a": draw(5)}, {"locations": places})]}


def ring_trace(cores: list[torch.Tensor], indices: list[Any]) -> torch.Tensor:
    product = torch.eye(cores[0].shape[-1], dtype=torch.float64)
    for core, index in zip(cores, indices, strict=True):
        product = product @ core[index]
    return product.trace()


def digits(index: int, sizes: list[int]) -> list[int]:
    """The first factor runs fastest."""
    result = []
    for size in sizes:
        result.append(index % size)
        index //= size
    return result


def make_tlora() -> dict[str, Any]:
    draw = Draw(6)
    inner, outer = [2, 3], [2, 4]

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
        transform = [t["transform0"], t["transform1"]]
        rows = [[ring_trace(transform, list(zip(digits(i, inner), digits(j, inner), strict=True))) for j in range(6)] for i in range(6)]
        big_t = torch.stack([torch.stack(row) for row in rows])
        ring = [t["out0"], t["out1"], t["in0"], t["in1"]]
        entries = [[ring_trace(ring, digits(o, outer) + digits(j, inner)) for j in range(6)] for o in range(8)]
        residual = torch.stack([torch.stack(row) for row in entries])
        return base(x, weight @ big_t + 1.5 * residual, bias)

    trained = {f"transform{d}": draw(n, n, 2, 2) for d, n in enumerate(inner)}
    trained |= {f"out{d}": draw(n, 2, 2) for d, n in enumerate(outer)} | {f"in{d}": draw(n, 2, 2) for d, n in enumerate(inner)}
    config = {"transformRank": 2, "residualRank": 2, "order": 2, "scale": 1.5}
    return {"layers": [layer("two cores", config, forward, draw(8, 6), draw(8), draw(3, 6), trained)]}


def make_krona() -> dict[str, Any]:
    draw = Draw(8)
    layers = []
    for a1, a2, inner, outer, digits_ in ((2, 3, 6, 8, (2, 3)), (64, 8, 16, 128, (2,))):
        for layout in ("official", "paper"):

            def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors, layout: str = layout) -> torch.Tensor:
                a, b = t["A"], t["B"]
                blocks = x.reshape(*x.shape[:-1], a.shape[1], b.shape[1])
                product = b @ blocks.transpose(-1, -2) @ a.T  # [..., b1, a1]
                ordered = product if layout == "official" else product.transpose(-1, -2)
                return base(x, weight, bias) + ordered.reshape(*x.shape[:-1], -1)

            config = {"a1": a1, "a2": a2, "layout": layout}
            trained = {"A": draw(a1, a2), "B": draw(outer // a1, inner // a2)}
            layers.append(layer(f"{a1} x {a2}, {layout}", config, forward, draw(outer, inner), None, draw(*digits_, inner), trained))
    return {"layers": layers}


def make_svf() -> dict[str, Any]:
    draw = Draw(9)
    sizes = [(5, 6), (6, 3)]
    weights = [draw(o, i) for i, o in sizes]
    factors = [torch.linalg.svd(w, full_matrices=False) for w in weights]
    start = {f"layer.{i}.dense.svf_s": s for i, (_, s, _) in enumerate(factors)}

    def forward(_: int, i: int, x: torch.Tensor, __: torch.Tensor, bias: torch.Tensor, all_: Tensors) -> torch.Tensor:
        u, _, v = factors[i]
        return ((x @ v.T) * all_[f"layer.{i}.dense.svf_s"]) @ u.T + bias

    optimizer = {"type": "adamw", "learningRate": 0.05, "weightDecay": 0.01}
    run = training(forward, sizes, start, optimizer, 5, draw, None, weights)
    trainings = [{"config": {"parametrization": form}, "seed": 3} | run for form in ("absolute", "delta")]
    return {"layers": [], "trainings": trainings}


def make_loldu() -> dict[str, Any]:
    draw = Draw(10)
    layers = []
    for outer, inner in ((15, 15), (7, 5), (5, 7)):
        for r in (2, min(outer, inner)):
            for alpha in (1.0, 8.0):
                weight = draw(outer, inner)
                p, lower, upper = scipy.linalg.lu(weight.numpy())
                d = np.diag(upper).copy()
                left = torch.from_numpy((p @ lower)[:, :r].copy())
                right = torch.from_numpy((upper / d[:, None])[:r].copy())
                z0 = torch.from_numpy(d[:r].copy())
                scale = alpha / r
                residual = weight - scale * left @ torch.diag(z0) @ right

                def forward(
                    x: torch.Tensor, _: torch.Tensor, bias: torch.Tensor | None, t: Tensors,
                    residual: torch.Tensor = residual, left: torch.Tensor = left, right: torch.Tensor = right, scale: float = scale,
                ) -> torch.Tensor:
                    return base(x, residual + scale * left @ torch.diag(t["z"]) @ right, bias)

                name = f"{outer} x {inner}, r {r}, alpha {alpha:g}"
                layers.append(layer(name, {"r": r, "alpha": alpha}, forward, weight, draw(outer), draw(3, inner), {"z": z0 + draw(r)}, {"z0": z0}))
    return {"layers": layers}


def make_hydra() -> dict[str, Any]:
    draw = Draw(11)

    def forward(scale: float | None) -> Forward:
        def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
            z = base(x, weight, bias)
            result = z
            for which, source in (("par", x), ("seq", z)):
                h = source @ t[f"{which}Down"].T + t[f"{which}DownBias"]
                out = h @ t[f"{which}Up"].T + t[f"{which}UpBias"]
                result = result + (t[f"{which}Scale"] if scale is None else scale) * out
            return result

        return run

    def trained() -> Tensors:
        widths = {"par": 5, "seq": 7}
        return {
            f"{which}{part}": value
            for which, width in widths.items()
            for part, value in (("Down", draw(2, width)), ("DownBias", draw(2)), ("Up", draw(7, 2)), ("UpBias", draw(7)))
        }

    common = {"parallelRank": 2, "sequentialRank": 2}
    vtab = layer("VTAB layer", common | {"scale": 4.5}, forward(4.5), draw(7, 5), 3 * draw(7), draw(2, 3, 5), trained())
    scales = {"parScale": draw(1) + 1, "seqScale": draw(1) + 1}
    elevater = layer("ELEVATER layer, learned scale", common | {"scale": "learned"}, forward(None), draw(7, 5), draw(7), draw(4, 5), trained() | scales)
    return {"layers": [vtab, elevater]}


def make_qwha() -> dict[str, Any]:
    draw = Draw(12)
    h = torch.from_numpy(scipy.linalg.hadamard(8).astype(np.float64))
    order = draw.order(48)[:14]
    rows, columns = order // 8, order % 8

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: Tensors) -> torch.Tensor:
        dense = torch.zeros(6, 8, dtype=torch.float64).index_put((rows, columns), t["values"])
        return base(x, weight + 20.0 / 6**0.5 * (dense @ h / 8), bias)

    places = torch.stack([rows, columns]).double()
    case = layer("order 8", {"r": 1, "scaling": 20}, forward, draw(6, 8), draw(6), draw(3, 8), {"values": draw(14)}, {"positions": places})
    return {"layers": [case]}


MAKERS = {
    "DYLORA": make_dylora,
    "MOS": make_mos,
    "RANDLORA": make_randlora,
    "PACA": make_paca,
    "LOCA": make_loca,
    "TLORA_TENSOR": make_tlora,
    "KRONA": make_krona,
    "SVF": make_svf,
    "LOLDU": make_loldu,
    "HYDRA": make_hydra,
    "QHFT": make_qwha,
}


def make() -> None:
    for method, make_method in MAKERS.items():
        save_json(GOLDEN / "papers" / f"{method.lower()}.json", make_method())
