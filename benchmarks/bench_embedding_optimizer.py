"""Cost of a training step of an embedding table: ours beside torch's, on tables of several sizes.

One step is look-up, backward and update of 1,024 x 100 look-ups of width 16, all in one process and thread.
Items are drawn uniformly (nearly all distinct) or by a power law as in real logs. Run:

    python benchmarks/bench_embedding_optimizer.py
"""

import time
from collections.abc import Callable

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.training.optimizers.table_optimizers import (
    LazyAdam,
    RowSummer,
    RowwiseAdagrad,
    TableOptimizer,
)

LOOKUPS, WIDTH, REPEATS = 1024 * 100, 16, 9
Step = Callable[[], None]


def draw(rows: int, kind: str) -> Tensor:
    random = np.random.default_rng(0)
    if kind == "uniform":
        return torch.from_numpy(random.integers(1, rows, LOOKUPS))
    drawn = random.zipf(1.2, 6 * LOOKUPS)
    return torch.from_numpy(drawn[drawn < rows][:LOOKUPS].astype(np.int64))


def milliseconds(step: Step) -> float:
    """CPU time of one step, the least of several: other work on the machine only adds."""
    step()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return 1000 * min(found)


def gradient_of(weight: torch.nn.Parameter, lookups: Tensor, sparse: bool) -> None:
    weight.grad = None
    functional.embedding(lookups, weight, padding_idx=0, sparse=sparse).sum().backward()


def ours(rows: int, lookups: Tensor, make: Callable[[Tensor], TableOptimizer]) -> Step:
    weight = torch.nn.Parameter(torch.zeros(rows, WIDTH))
    optimizer, summer = make(weight.detach()), RowSummer(rows)

    def step() -> None:
        gradient_of(weight, lookups, sparse=True)
        assert weight.grad is not None
        optimizer.update(weight.detach(), summer.sum(weight.grad), 0.01)

    return step


def torchs(rows: int, lookups: Tensor, kind: str) -> Step:
    weight = torch.nn.Parameter(torch.zeros(rows, WIDTH))
    if kind == "sparse":
        optimizer: torch.optim.Optimizer = torch.optim.SparseAdam([weight], lr=0.01)
    else:
        optimizer = torch.optim.Adam([weight], lr=0.01, fused=True)

    def step() -> None:
        gradient_of(weight, lookups, sparse=kind == "sparse")
        optimizer.step()

    return step


def compare_steps(rows: int, kind: str) -> None:
    lookups = draw(rows, kind)
    steps = {
        "row-wise Adagrad": ours(rows, lookups, lambda weight: RowwiseAdagrad(weight, 1e-8)),
        "lazy Adam": ours(rows, lookups, lambda weight: LazyAdam(weight, (0.9, 0.999), 1e-8)),
        "torch SparseAdam": torchs(rows, lookups, "sparse"),
        "torch Adam, fused": torchs(rows, lookups, "dense"),
    }
    times = {name: milliseconds(step) for name, step in steps.items()}
    for name, value in times.items():
        print(
            f"{rows:>10,} {kind:<8} {len(lookups.unique()):>8,} {name:<18} {value:8.2f} ms"
            f" {value / times['lazy Adam']:7.2f} x lazy Adam"
        )


def compare_distinct(rows: int, kind: str) -> None:
    lookups, summer = draw(rows, kind), RowSummer(rows)
    winner = milliseconds(lambda: summer.distinct(lookups) and None)
    unique = milliseconds(lambda: torch.unique(lookups, return_inverse=True) and None)
    print(f"{rows:>10,} {kind:<8} distinct rows {winner:6.2f} ms, torch.unique {unique / winner:.2f} x")


def main() -> None:
    torch.set_num_threads(1)
    print(f"{LOOKUPS:,} look-ups of width {WIDTH}, CPU time of one thread\n")
    print(f"{'rows':>10} {'items':<8} {'distinct':>8} optimizer")
    for rows in (100_000, 1_000_000, 4_000_000):
        for kind in ("uniform", "zipf"):
            compare_steps(rows, kind)
    print()
    for rows in (100_000, 1_000_000, 4_000_000):
        for kind in ("uniform", "zipf"):
            compare_distinct(rows, kind)


if __name__ == "__main__":
    main()
