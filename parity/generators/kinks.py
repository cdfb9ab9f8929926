"""Gradients of operators at points where finite differences do not exist: golden/kinks.json.

Kinks, ties, zeros, infinities and saturated values. Each case names the ONNX operator with its attributes and inputs; the
gradients are PyTorch's of its counterpart, in float32. Numbers that JSON lacks are written as text.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from .common import GOLDEN, save_json, versions

CASES: list[dict[str, Any]] = []
INF = math.inf

Tensor = torch.Tensor


def plain(values: Tensor) -> list[float | str]:
    """Entries as JSON numbers; NaN and infinities as text."""
    return [v if math.isfinite(v) else str(v) for v in values.flatten().tolist()]


def case(
    name: str,
    op: str,
    inputs: list[list[Any]],
    f: Callable[..., Tensor],
    attributes: dict[str, Any] | None = None,
    axes: list[int] | None = None,
    opset: int = 21,
) -> None:
    """Adds one case; every input is differentiated. `axes` is a constant second input of reductions."""
    tensors = [torch.tensor(data, dtype=torch.float32).requires_grad_() for data in inputs]
    y = f(*tensors)
    weights = torch.arange(1, y.numel() + 1, dtype=torch.float32).reshape(y.shape)
    gradients = torch.autograd.grad(y, tensors, weights)
    CASES.append(
        {
            "name": f"{op}: {name}",
            "op": op,
            "opset": opset,
            "attributes": attributes or {},
            "axes": axes,
            "inputs": [{"dims": list(t.shape), "data": plain(t.detach())} for t in tensors],
            "gradients": [plain(g) for g in gradients],
        }
    )


def rectifiers() -> None:
    around = [[-1.0, -0.0, 0.0, 1e-30, 2.0]]
    case("at 0", "Relu", around, torch.relu)
    case("at 0", "LeakyRelu", around, lambda x: F.leaky_relu(x, 0.1), {"alpha": 0.1})
    case("at 0", "Elu", around, lambda x: F.elu(x, 0.5), {"alpha": 0.5})
    case("at 0", "Celu", around, lambda x: F.celu(x, 0.5), {"alpha": 0.5})
    case("at 0", "Selu", around, F.selu)
    case("at 0", "PRelu", [*around, [0.25]], F.prelu)
    case("at its threshold", "ThresholdedRelu", [[0.5, 1.0, 1.5]], lambda x: F.threshold(x, 1.0, 0.0), {"alpha": 1.0})
    bounds = [[-4.0, -3.0, -1.0, 0.0, 3.0, 4.0]]
    case("at its bounds", "HardSigmoid", bounds, F.hardsigmoid, {"alpha": 1 / 6, "beta": 0.5})
    case("at its bounds", "HardSwish", bounds, F.hardswish)
    case("at its bounds", "Clip", [[-2.0, -1.0, 0.0, 1.0, 2.0], -1.0, 1.0], lambda x, a, b: torch.clamp(x, a, b))
    case("with crossed bounds", "Clip", [[-2.0, 0.0, 2.0], 1.0, -1.0], lambda x, a, b: torch.clamp(x, a, b))
    case("at 0", "Abs", [[-1.0, 0.0, 2.0]], torch.abs)
    case("at 0", "Softsign", [[-1.0, 0.0, 2.0]], F.softsign)


def saturated() -> None:
    far = [[-200.0, -20.0, 0.0, 20.0, 200.0]]
    case("far out", "Sigmoid", far, torch.sigmoid)
    case("far out", "Tanh", far, torch.tanh)
    case("far out", "Erf", far, torch.erf)
    case("far out", "Softplus", far, F.softplus)
    case("far out", "Gelu", far, F.gelu, opset=20)
    case("far out, tanh", "Gelu", far, lambda x: F.gelu(x, approximate="tanh"), {"approximate": "tanh"}, opset=20)
    case("far out", "Swish", far, F.silu, opset=24)
    case("far out", "Mish", far, F.mish)
    case("with -infinity", "Softmax", [[[1.0, -INF, 2.0], [-INF, 0.0, -INF]]], lambda x: F.softmax(x, -1), {"axis": -1})
    case("far out", "LogSoftmax", [[[1.0, -200.0, 2.0]]], lambda x: F.log_softmax(x, -1), {"axis": -1})


def singular() -> None:
    case("at 0", "Sqrt", [[0.0, 4.0]], torch.sqrt)
    case("at 0", "Reciprocal", [[0.0, 4.0]], torch.reciprocal)
    case("at 0", "Log", [[0.0, 4.0]], torch.log)
    case("by 0", "Div", [[1.0, 4.0], [0.0, 2.0]], torch.div)
    case("at the ends", "Asin", [[-1.0, 0.0, 1.0]], torch.asin)
    case("at the ends", "Acos", [[-1.0, 0.0, 1.0]], torch.acos)
    case("at 1", "Acosh", [[1.0, 2.0]], torch.acosh)
    case("at the ends", "Atanh", [[-1.0, 0.0, 1.0]], torch.atanh)
    bases = [0.0, 0.0, 0.0, 0.0, -2.0, 2.0]
    case("0 and negative bases", "Pow", [bases, [0.0, 1.0, 2.0, 0.5, 0.0, 0.0]], torch.pow)
    case("fmod", "Mod", [[5.5, -5.5, 4.0], [2.0, 2.0, 2.0]], torch.fmod, {"fmod": 1})
    case("not a number in the other branch", "Max", [[1.0, -INF, 2.0], [0.0, 0.0, 2.0]], torch.maximum)


def ties() -> None:
    case("of two", "Max", [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], torch.maximum)
    case("of two", "Min", [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], torch.minimum)
    three = [[1.0, 2.0], [1.0, 2.0], [1.0, 0.0]]
    case("of three", "Max", three, lambda *x: torch.stack(x).amax(0))
    case("of three", "Min", three, lambda *x: torch.stack(x).amin(0))
    rows = [[[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]]
    case("in a row", "ReduceMax", rows, lambda x: x.amax(1), {"keepdims": 0}, [1])
    case("in a row", "ReduceMin", rows, lambda x: x.amin(1), {"keepdims": 0}, [1])


def norms() -> None:
    rows = [[[0.0, 0.0, 0.0], [3.0, 0.0, -4.0]]]
    case("of zeros", "ReduceL1", rows, lambda x: torch.linalg.vector_norm(x, 1, 1), {"keepdims": 0}, [1])
    case("of zeros", "ReduceL2", rows, lambda x: torch.linalg.vector_norm(x, 2, 1), {"keepdims": 0}, [1])
    zeros = [[[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 4.0]]]
    case("with zeros", "ReduceProd", zeros, lambda x: x.prod(1), {"keepdims": 0}, [1])
    infinite = [[[1.0, -INF, 2.0], [0.0, 0.0, -200.0]]]
    case("with -infinity", "ReduceLogSumExp", infinite, lambda x: torch.logsumexp(x, 1), {"keepdims": 0}, [1])
    constant = [[[2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 5.0]], [1.0, 2.0, 0.5, 1.0], [0.0, 0.0, 0.0, 1.0]]
    case(
        "of a constant row",
        "LayerNormalization",
        constant,
        lambda x, w, b: F.layer_norm(x, (4,), w, b, 1e-5),
        {"axis": -1, "epsilon": 1e-5},
    )


def make() -> None:
    CASES.clear()
    for part in (rectifiers, saturated, singular, ties, norms):
        part()
    save_json(GOLDEN / "kinks.json", {"versions": versions(), "cases": CASES})
