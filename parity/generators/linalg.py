"""Decompositions and transforms from SciPy: golden/linalg.json. Inputs are small numbers with few digits, so that the file stays small."""

from typing import Any

import numpy as np
import scipy
import scipy.fft
import scipy.linalg

from .common import GOLDEN, save_json


def matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.round(rng.standard_normal((rows, columns)), 3)


def plain(a: Any) -> Any:
    return np.asarray(a, dtype=np.float64).tolist()


def make() -> None:
    rng = np.random.default_rng(0)
    out: dict[str, Any] = {"scipy": scipy.__version__}

    svd = []
    for rows, columns in [(1, 1), (4, 4), (6, 3), (3, 7), (9, 2)]:
        a = matrix(rng, rows, columns)
        svd.append({"a": plain(a), "s": plain(scipy.linalg.svdvals(a))})
    low = matrix(rng, 6, 2) @ matrix(rng, 2, 5)
    svd.append({"a": plain(low), "s": plain(scipy.linalg.svdvals(low))})
    out["svd"] = svd

    qr = []
    for rows, columns in [(4, 4), (6, 3), (3, 5)]:
        a = matrix(rng, rows, columns)
        q, r = scipy.linalg.qr(a, mode="economic")
        qr.append({"a": plain(a), "q": plain(q), "r": plain(r)})
    out["qr"] = qr

    lu = []
    for rows, columns in [(4, 4), (5, 3), (3, 6)]:
        a = matrix(rng, rows, columns)
        p, lower, upper = scipy.linalg.lu(a)
        # a = p @ l @ u; row i of p.T @ a is row order[i] of a.
        lu.append({"a": plain(a), "order": p.argmax(axis=0).tolist(), "l": plain(lower), "u": plain(upper)})
    out["lu"] = lu

    square = matrix(rng, 5, 5)
    positive = square @ square.T + np.eye(5)
    right = matrix(rng, 5, 2)
    out["cholesky"] = {"a": plain(positive), "l": plain(scipy.linalg.cholesky(positive, lower=True))}
    out["eigen"] = [
        {"a": plain(a), "values": plain(scipy.linalg.eigvalsh(a))}
        for a in (positive, square + square.T, np.diag([3.0, -1.0, 0.0, 3.0]))
    ]
    out["solve"] = {"a": plain(square), "b": plain(right), "x": plain(scipy.linalg.solve(square, right))}
    out["inverse"] = {"a": plain(square), "x": plain(scipy.linalg.inv(square))}
    out["expm"] = [
        {"a": plain(a), "x": plain(scipy.linalg.expm(a))} for a in (square, 10 * square, (square - square.T) / 2, square / 1000)
    ]

    out["dct2"] = []
    for rows, columns in [(1, 1), (2, 3), (7, 5), (8, 8)]:
        a = matrix(rng, rows, columns)
        out["dct2"].append({"a": plain(a), "x": plain(scipy.fft.dctn(a, norm="ortho"))})
    out["dctMatrix"] = [{"n": n, "x": plain(scipy.fft.dct(np.eye(n), axis=0, norm="ortho"))} for n in (1, 2, 3, 7)]
    out["fft"] = []
    for n in (1, 2, 5, 8, 12):
        a = matrix(rng, 2, n)
        x = scipy.fft.fft(a[0] + 1j * a[1])
        out["fft"].append({"re": plain(a[0]), "im": plain(a[1]), "xRe": plain(x.real), "xIm": plain(x.imag)})
    a = matrix(rng, 2, 7)
    out["convolution"] = {
        "x": plain(a[0]),
        "y": plain(a[1]),
        "z": plain(np.fft.ifft(np.fft.fft(a[0]) * np.fft.fft(a[1])).real),
        "circulant": plain(scipy.linalg.circulant(a[0])),
    }
    out["hadamard"] = [{"n": n, "x": scipy.linalg.hadamard(n).tolist()} for n in (1, 2, 8)]
    out["kron"] = {"a": plain(a[:, :2]), "b": plain(a[:, 2:5]), "x": plain(np.kron(a[:, :2], a[:, 2:5]))}
    save_json(GOLDEN / "linalg.json", out)
