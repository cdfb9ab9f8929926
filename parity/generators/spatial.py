"""Spatial operators at their edges (ties, padding, borders, rounding) as PyTorch computes them: golden/spatial.json.

Each case names an ONNX operator with its attributes, so that a reader can run it as it is. Inputs are float32 numbers,
arithmetic is float64.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from .common import GOLDEN, generator, save_json, versions

Tensors = list[torch.Tensor]
SEED = 700
CASES: list[dict[str, Any]] = []


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(SEED + seed)).float()


def tied(*shape: int, seed: int = 0) -> torch.Tensor:
    """Few different values, so that maxima are shared."""
    return torch.randint(-2, 3, shape, generator=generator(SEED + seed)).float()


def numbers(tensor: torch.Tensor) -> list[float]:
    """Nine digits: as many as tell float32 numbers apart."""
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def described(tensor: torch.Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "data": numbers(tensor)}


def case(
    name: str,
    op: str,
    attributes: dict[str, Any],
    inputs: Tensors,
    f: Callable[..., torch.Tensor],
    constants: list[dict[str, Any] | None] | None = None,
) -> None:
    """Adds one case: `f` maps the float64 inputs to the result; `constants` are the operator's further inputs."""
    leaves = [value.double().requires_grad_() for value in inputs]
    output = f(*leaves)
    d_output = torch.randn(output.shape, generator=generator(SEED + len(CASES))).float()
    gradients = torch.autograd.grad(output, leaves, d_output.double(), allow_unused=True, materialize_grads=True)
    CASES.append(
        {
            "name": name,
            "op": op,
            "attributes": attributes,
            "inputs": [described(value) for value in inputs],
            "constants": constants or [],
            "output": described(output),
            "dOutput": numbers(d_output),
            "gradients": [numbers(gradient) for gradient in gradients],
        }
    )


def twice(*values: int) -> list[int]:
    return [*values, *values]


def convolutions() -> None:
    x, bias = normal(2, 4, 5, 6, seed=1), normal(6, seed=3)
    for name, groups, stride, padding, dilation in [
        ("plain", 1, (1, 1), (0, 0), (1, 1)),
        ("strided", 1, (2, 1), (1, 2), (1, 1)),
        ("dilated", 1, (1, 2), (2, 1), (2, 1)),
        ("groups", 2, (2, 2), (1, 1), (1, 1)),
    ]:
        weight = normal(6, 4 // groups, 3, 2, seed=2)
        attributes = {"strides": list(stride), "pads": twice(*padding), "dilations": list(dilation), "group": groups}
        case(f"conv/{name}", "Conv", attributes, [x, weight, bias],
             lambda x, w, b, s=stride, p=padding, d=dilation, g=groups: F.conv2d(x, w, b, s, p, d, g))
    for name, groups, stride, padding, extra, dilation in [
        ("plain", 1, (1, 1), (0, 0), (0, 0), (1, 1)),
        ("strided", 1, (2, 3), (1, 0), (1, 2), (1, 1)),
        ("groups", 2, (2, 1), (1, 1), (0, 0), (1, 2)),
    ]:
        weight = normal(4, 6 // groups, 3, 2, seed=4)
        attributes = {"strides": list(stride), "pads": twice(*padding), "output_padding": list(extra), "dilations": list(dilation), "group": groups}
        case(f"conv-transpose/{name}", "ConvTranspose", attributes, [x, weight, bias],
             lambda x, w, b, s=stride, p=padding, e=extra, d=dilation, g=groups: F.conv_transpose2d(x, w, b, s, p, e, g, d))
    case("conv/3-d", "Conv", {"pads": [1, 0, 1, 1, 0, 1], "strides": [1, 2, 1]}, [normal(1, 2, 3, 4, 3, seed=5), normal(3, 2, 2, 2, 3, seed=6)],
         lambda x, w: F.conv3d(x, w, None, (1, 2, 1), (1, 0, 1)))


def pools() -> None:
    for name, kernel, stride, padding, dilation, ceil in [
        ("ties", 2, 2, 0, 1, False),
        ("ties-overlapping", 3, 2, 1, 1, False),
        ("ties-ceil", 3, 2, 1, 1, True),
        ("ties-dilated", 2, 1, 1, 2, False),
    ]:
        attributes = {"kernel_shape": twice(kernel), "strides": twice(stride), "pads": [padding] * 4, "dilations": twice(dilation), "ceil_mode": int(ceil)}
        case(f"max-pool/{name}", "MaxPool", attributes, [tied(2, 2, 6, 7, seed=7)],
             lambda x, k=kernel, s=stride, p=padding, d=dilation, c=ceil: F.max_pool2d(x, k, s, p, d, c))
    for counted in (False, True):
        for ceil in (False, True):
            attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": twice(1, 1), "ceil_mode": int(ceil), "count_include_pad": int(counted)}
            case(f"average-pool/{'padding-counts' if counted else 'padding-does-not-count'}{'-ceil' if ceil else ''}", "AveragePool", attributes,
                 [normal(1, 2, 6, 7, seed=8)], lambda x, c=ceil, i=counted: F.avg_pool2d(x, (3, 2), 2, 1, c, i))
    case("lp-pool", "LpPool", {"kernel_shape": [2, 3], "strides": [2, 1], "p": 2}, [normal(1, 2, 5, 6, seed=9)],
         lambda x: F.lp_pool2d(x, 2.0, (2, 3), (2, 1)))
    case("global-max-pool/ties", "GlobalMaxPool", {}, [tied(2, 3, 3, 4, seed=10)], lambda x: F.adaptive_max_pool2d(x, 1))
    case("global-average-pool", "GlobalAveragePool", {}, [normal(2, 3, 3, 4, seed=11)], lambda x: F.adaptive_avg_pool2d(x, 1))


def resizing() -> None:
    x = normal(1, 2, 4, 5, seed=12)
    empty = {"type": "float32", "shape": [0], "data": []}
    for height, width in [(7, 3), (8, 10), (2, 9)]:
        sizes = {"type": "int64", "shape": [4], "data": [1, 2, height, width]}
        for name, mode, coordinates, options in [
            ("nearest", "nearest", "asymmetric", {}),
            ("nearest-exact", "nearest", "half_pixel", {}),
            ("bilinear", "linear", "half_pixel", {"align_corners": False}),
            ("bilinear", "linear", "align_corners", {"align_corners": True}),
            ("bicubic", "cubic", "half_pixel", {"align_corners": False}),
            ("bicubic", "cubic", "align_corners", {"align_corners": True}),
        ]:
            attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
            if mode == "nearest":
                attributes["nearest_mode"] = "floor" if name == "nearest" else "round_prefer_ceil"
            case(f"resize/{name}-{coordinates}-{height}x{width}", "Resize", attributes, [x],
                 lambda x, s=(height, width), n=name, o=options: F.interpolate(x, s, mode=n, **o), [empty, empty, sizes])


def sampling() -> None:
    x = normal(1, 2, 4, 5, seed=13)
    # Wide: many places lie outside. Some lie on pixels and on borders exactly.
    grid = 1.3 * normal(1, 3, 4, 2, seed=14)
    for mode, onnx_mode in [("bilinear", "linear"), ("nearest", "nearest"), ("bicubic", "cubic")]:
        for padding in ("zeros", "border", "reflection"):
            for aligned in (False, True):
                attributes = {"mode": onnx_mode, "padding_mode": padding, "align_corners": int(aligned)}
                case(f"grid-sample/{mode}-{padding}{'-aligned' if aligned else ''}", "GridSample", attributes, [x, grid],
                     lambda x, g, m=mode, p=padding, a=aligned: F.grid_sample(x, g, m, p, a))


def blocks() -> None:
    case("pixel-shuffle", "DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [normal(1, 8, 2, 3, seed=15)], lambda x: F.pixel_shuffle(x, 2))


def normalisation() -> None:
    x, scale, bias = normal(3, 2, 4, seed=16), normal(2, seed=17), normal(2, seed=18)
    zeros, ones = ({"type": "float32", "shape": [2], "data": [value, value]} for value in (0.0, 1.0))
    case("batch-norm/training", "BatchNormalization", {"training_mode": 1}, [x, scale, bias],
         lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=1e-5), [zeros, ones])


def make() -> None:
    CASES.clear()
    for part in (convolutions, pools, resizing, sampling, blocks, normalisation):
        part()
    save_json(GOLDEN / "spatial.json", {"versions": versions(), "cases": CASES})
