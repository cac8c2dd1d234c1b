"""Start and step time of `DenseAdam` beside `torch.optim.AdamW(fused=True)`, which moves weights alike.

The start is the CPU time of making an optimizer and taking a first step in a new process, without the import
of torch itself. Steps are timed in turns, in one process and thread. Run:

    python benchmarks/bench_dense_adam.py
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from clickscale.training.optimizers.dense import DenseAdam

STARTS, ROUNDS, STEPS = 5, 30, 5
BEGIN = """
import time, torch
weight = torch.nn.Parameter(torch.zeros(4, 4))
weight.grad = torch.ones(4, 4)
start = time.process_time()
"""
OURS = """
from clickscale.training.optimizers.dense import DenseAdam
DenseAdam([([weight], 0.01)], (0.9, 0.999), 1e-8, True).step((0.001,))
"""
TORCH = "torch.optim.AdamW([weight], lr=0.001, fused=True).step()\n"
END = "print(time.process_time() - start)"
SHAPES = {"40 small": [(256, 128), (128,)] * 20, "46 large": [(1024, 512)] * 6 + [(512,)] * 40}


def start_seconds(program: str) -> float:
    """Median CPU seconds of a start in a new process."""
    command = [sys.executable, "-c", BEGIN + program + END]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(STARTS)]
    return statistics.median(float(run.stdout) for run in runs)


def weights_of(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    weights = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    return weights


def milliseconds(step: Callable[[], object]) -> float:
    """Time of one of several steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return 1000 * (time.perf_counter() - start) / STEPS


def main() -> None:
    print(f"start, CPU seconds: DenseAdam {start_seconds(OURS):.3f}, torch {start_seconds(TORCH):.3f}")
    torch.set_num_threads(1)
    for name, shapes in SHAPES.items():
        ours = DenseAdam([(weights_of(shapes), 0.01)], (0.9, 0.999), 1e-8, decoupled=True)
        theirs = torch.optim.AdamW(weights_of(shapes), lr=1e-3, weight_decay=0.01, fused=True)
        pairs = [
            (milliseconds(partial(ours.step, (1e-3,))), milliseconds(theirs.step)) for _ in range(ROUNDS)
        ]
        a, b = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        print(f"step, {name} weights: DenseAdam {a:.2f} ms, torch {b:.2f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
