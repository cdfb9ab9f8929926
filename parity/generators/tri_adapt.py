"""TriAdaptLoRA at one linear module over three growths, plain SGD: golden/tri-adapt.json.

A transcription from the description of the method (arXiv 2501.08008) and of the authors' code: blocks of size 1 as separate
parameters, L and U put together from rows and columns, alpha / (rank + 1e-5), the orthogonality penalty, the score from the norm of C.
float64, so that a reader may compare to the limits of float32.
"""

import torch

from .common import GOLDEN, generator, save_json, versions

SEED = 950
ROWS, IN, OUT = 6, 5, 4
ALPHA, ORTH, RATE, STEPS, INTERVAL, TARGET = 3.0, 0.1, 0.05, 8, 2, 4


class Site:
    """One module: lists of blocks, as they are saved."""

    def __init__(self) -> None:
        self.random = generator(SEED)
        self.weight = self.draw(OUT, IN, scale=1.0)
        self.A: list[torch.Tensor] = []
        self.B: list[torch.Tensor] = []
        self.rows: list[torch.Tensor] = []
        self.columns: list[torch.Tensor] = []
        self.add(first=True)

    def draw(self, *shape: int, scale: float = 0.3) -> torch.Tensor:
        return (torch.randn(shape, generator=self.random) * scale).float().double()

    def add(self, first: bool = False) -> dict[str, list[float]]:
        size = len(self.A) + 1
        block = {
            "A": self.draw(1, IN),
            "B": torch.zeros(OUT, 1, dtype=torch.float64) if first else self.draw(OUT, 1),
            "L": self.draw(1, size),
            "U": self.draw(size, 1),
        }
        for values, name in ((self.A, "A"), (self.B, "B"), (self.rows, "L"), (self.columns, "U")):
            values.append(block[name].requires_grad_())
        return {name: values.flatten().tolist() for name, values in block.items()}

    def middle(self) -> torch.Tensor:
        r = len(self.A)
        lower = torch.cat([torch.cat([row, row.new_zeros(1, r - row.shape[1])], 1) for row in self.rows], 0)
        upper = torch.cat([torch.cat([column, column.new_zeros(r - column.shape[0], 1)], 0) for column in self.columns], 1)
        return lower + upper

    def change(self) -> torch.Tensor:
        return torch.cat(self.B, 1) @ self.middle() @ torch.cat(self.A, 0) * (ALPHA / (len(self.A) + 1e-5))

    def orthogonality(self) -> torch.Tensor:
        a, b = torch.cat(self.A, 0), torch.cat(self.B, 1)
        unit = torch.eye(len(self.A), dtype=torch.float64)
        return (torch.linalg.norm(a @ a.T - unit) + torch.linalg.norm(b.T @ b - unit)) / 2

    def norm(self) -> float:
        return (torch.linalg.norm(self.middle()) / len(self.A)).item()

    def parameters(self) -> list[torch.Tensor]:
        return [*self.A, *self.B, *self.rows, *self.columns]


def make() -> None:
    site = Site()
    x, target = site.draw(ROWS, IN, scale=1.0), site.draw(ROWS, OUT, scale=1.0)
    start = {
        "A": site.A[0].flatten().tolist(),
        "L": site.rows[0].flatten().tolist(),
        "U": site.columns[0].flatten().tolist(),
    }
    losses, growths, last = [], [], site.norm()
    for step in range(STEPS):
        loss = ((x @ (site.weight + site.change()).T - target) ** 2).mean() + ORTH * site.orthogonality()
        gradients = torch.autograd.grad(loss, site.parameters())
        losses.append(loss.item())
        with torch.no_grad():
            for parameter, gradient in zip(site.parameters(), gradients, strict=True):
                parameter -= RATE * gradient
        if (step + 1) % INTERVAL == 0 and len(site.A) < TARGET:
            norm = site.norm()
            growths.append({"step": step, "score": norm - last, "block": site.add()})
            last = norm
    save_json(
        GOLDEN / "tri-adapt.json",
        {
            "alpha": ALPHA,
            "orthReg": ORTH,
            "learningRate": RATE,
            "interval": INTERVAL,
            "target": TARGET,
            "weight": site.weight.flatten().tolist(),
            "x": x.flatten().tolist(),
            "y": target.flatten().tolist(),
            "start": start,
            "losses": losses,
            "growths": growths,
            "change": site.change().flatten().tolist(),
            "versions": versions(),
        },
    )
