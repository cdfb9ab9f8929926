"""QWHA's start from the error of a quantised weight, in NumPy as the specification says it: golden/qwha-start.json."""

import numpy
import scipy.linalg

from .common import GOLDEN, save_json

OUT, IN, RANK, SCALING, DAMPING = 10, 16, 2, 150.0, 1e-4


def counts_of(shares: numpy.ndarray, budget: int, most: int) -> list[int]:
    counts = numpy.minimum(numpy.floor(shares * budget).astype(int), most)
    while (left := budget - counts.sum()) > 0:
        free = numpy.flatnonzero(counts < most)
        if left >= len(free):
            counts[free] = numpy.minimum(counts[free] + left // len(free), most)
        else:
            smallest = free[numpy.argsort(counts[free], kind="stable")[:left]]
            counts[smallest] += 1
    return counts.tolist()


def make() -> None:
    source = numpy.random.default_rng(71)
    h = scipy.linalg.hadamard(IN).astype(float)
    error = (source.normal(size=(OUT, IN)) * source.uniform(0.2, 3, size=(OUT, 1))).astype(numpy.float32).astype(float)
    rows = source.normal(size=(60, IN)) @ source.normal(size=(IN, IN))
    gram = (rows.T @ rows).astype(numpy.float32).astype(float)

    damped = gram + DAMPING * numpy.mean(numpy.diag(gram)) * numpy.eye(IN)
    e, v = numpy.linalg.eigh(damped)
    root = numpy.diag(numpy.sqrt(numpy.maximum(e, 0))) @ v.T
    basis = root @ h.T / IN  # rows of the root transformed
    spectrum = numpy.linalg.solve(basis, root @ error.T)  # [in, out]
    norms = numpy.linalg.norm(spectrum, axis=0)
    budget = RANK * (OUT + IN)
    counts = counts_of(norms / norms.sum(), budget, IN)
    places, values = [], []
    for i, count in enumerate(counts):
        importance = (basis**2).sum(axis=0) * spectrum[:, i] ** 2
        chosen = numpy.sort(numpy.argsort(-importance, kind="stable")[:count])
        found, *_ = numpy.linalg.lstsq(basis[:, chosen], root @ error[i], rcond=None)
        places += [[i, int(j)] for j in chosen]
        values += (found * OUT**0.5 / SCALING).tolist()
    dense = numpy.zeros((OUT, IN))
    for (i, j), value in zip(places, values, strict=True):
        dense[i, j] = value
    change = SCALING / OUT**0.5 * dense @ h / IN
    left = numpy.linalg.norm(root @ (error - change).T) ** 2 / numpy.linalg.norm(root @ error.T) ** 2
    save_json(
        GOLDEN / "qwha-start.json",
        {
            "shape": [OUT, IN], "r": RANK, "scaling": SCALING, "error": error.flatten().tolist(), "gram": gram.flatten().tolist(),
            "counts": counts, "rows": [i for i, _ in places], "columns": [j for _, j in places], "values": values,
            "change": change.flatten().tolist(), "share_left": float(left),
        },
    )
