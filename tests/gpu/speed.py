"""Samples per second of training steps, on the CPU and on a GPU: ``python -m tests.gpu.speed [--seconds 2]``.

A step is forward, backward and the step of the optimizer on one batch that is on the device: 128 rows of 100
behaviors with 8 candidates each, size-2. The numbers are those of the median step.
"""

# ruff: noqa: E402 - the process is configured before torch is imported
import argparse
import statistics
import time

from clickscale.runtime import configure_process, set_threads

configure_process()

import torch

from clickscale.models import build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from tests.models.toy import features, item_columns, toy_batch

MODELS = ("suan", "lightsuan", "est", "din")
ROWS, LENGTH, CANDIDATES = 128, 100, 8


def samples_per_second(name: str, device: torch.device, seconds: float) -> float:
    """Impressions per second of the median training step."""
    torch.manual_seed(0)
    model = build_model(name, features(), item_columns(), grade="size-2", length=LENGTH).to(device)
    objective, optimizer = ClickLoss(model, ("click",)), build_optimizer(model, OptimizerConfig(), 10_000)
    batch = toy_batch(rows=ROWS, length=LENGTH, candidates=CANDIDATES, full=True).to(device)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        losses = objective(batch)
        losses[LOSS].backward()
        optimizer.step(losses[LOSS], len(times))  # waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return ROWS * CANDIDATES / statistics.median(times[1:])  # the first one warms up


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="of each model on each device")
    seconds = parser.parse_args().seconds
    gpu = torch.cuda.is_available()
    print(f"CPU: {set_threads(0)}; GPU: {torch.cuda.get_device_name() if gpu else 'none'}")
    print(f"{'model':12} {'CPU samples/s':>14} {'GPU samples/s':>14} {'ratio':>7}")
    for name in MODELS:
        slow = samples_per_second(name, torch.device("cpu"), seconds)
        fast = samples_per_second(name, torch.device("cuda"), seconds) if gpu else None
        shown = f"{fast:14,.0f} {fast / slow:6.1f}x" if fast else f"{'-':>14} {'-':>7}"
        print(f"{name:12} {slow:14,.0f} {shown}", flush=True)


if __name__ == "__main__":
    main()
