"""Sweeps with a planted law: made-up points whose truth is known, marked as such in the name of the data."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from clickscale.scaling.laws import Laws, fit_sweep
from clickscale.scaling.points import Measured, Sweep, write_points

NAME = "synthetic points, no data set"
SEED_NOISE = 0.0007  # deviation of AUC over seeds, as runs on MovieLens-1M have it
_CLOCK_NOISE = 0.05  # of a time, relative
GRADES = ("size-1", "size-2", "size-3", "size-4")
LENGTHS = (10, 25, 50, 100, 200)
FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
IMPRESSIONS = 3_200_000
CEILING = 0.80
EXPONENTS = {"compute": 0.3, "length": 0.5, "data": 0.3}

# Operations of one impression by grade: of the candidate, and of each behavior.
_OPERATIONS = {
    "size-1": (2e5, 3e4),
    "size-2": (3e5, 9e4),
    "size-3": (1.2e6, 7.5e5),
    "size-4": (8e6, 6e6),
}


def planted_auc(model: str, grade: str, length: int, fraction: float) -> float:
    """The AUC without noise: SUAN follows a law along all axes, DIN has no use for size."""
    size = operations(grade, LENGTHS[0]) / operations(GRADES[0], LENGTHS[0])
    used = size if model == "suan" else 1.0
    return (
        CEILING
        - 0.025 * used ** -EXPONENTS["compute"]
        - 0.035 * (length / LENGTHS[0]) ** -EXPONENTS["length"]
        - 0.030 * (fraction / FRACTIONS[0]) ** -EXPONENTS["data"]
    )


def operations(grade: str, length: int) -> int:
    candidate, behavior = _OPERATIONS[grade]
    return round(candidate + behavior * length + 16 * length**2)


def planted_sweep(
    models: tuple[str, ...] = ("suan", "din"), seeds: int = 3, noise: float = SEED_NOISE, seed: int = 0
) -> Sweep:
    """Every grade at every length on all of the data, and shares of the data for the largest and smallest."""
    random = np.random.default_rng(seed)
    cells = [
        _measured(model, grade, length, fraction, number, noise, random)
        for model in models
        for grade, length, fraction in _places()
        for number in range(seeds)
    ]
    return Sweep(data=NAME, manifest="0" * 64, by="time", part="test", cells=cells, best_auc=CEILING)


@cache
def planted_laws() -> Laws:
    """The laws of the planted sweep, fitted once for all tests that read them."""
    return fit_sweep(planted_sweep(), Path("nowhere"))


def write_planted_sweep(folder: Path) -> Path:
    """Write a planted sweep into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_points(folder, planted_sweep())
    return folder


def _places() -> Iterator[tuple[str, int, float]]:
    yield from ((grade, length, 1.0) for grade, length in product(GRADES, LENGTHS))
    for fraction in FRACTIONS[:-1]:
        yield GRADES[0], LENGTHS[0], fraction
        yield GRADES[-1], LENGTHS[-1], fraction


def _measured(
    model: str,
    grade: str,
    length: int,
    fraction: float,
    seed: int,
    noise: float,
    random: np.random.Generator,
) -> Measured:
    luck = noise * float(random.standard_normal())
    slower, waiting = np.exp(_CLOCK_NOISE * random.standard_normal(2)).tolist()
    flops, impressions = operations(grade, length), round(IMPRESSIONS * fraction)
    candidate = _OPERATIONS[grade][0]
    auc = planted_auc(model, grade, length, fraction) + luck
    training = 3.0 * flops * impressions
    cached = 500 * candidate / 6e7  # milliseconds at 60 GFLOP/s
    return Measured(
        model=model,
        grade=grade,
        length=length,
        fraction=fraction,
        seed=seed,
        label="click",
        impressions=impressions,
        dense_parameters=round(candidate / 2),
        flops=flops,
        training_flops=training,
        auc=round(auc, 6),
        gauc=round(auc - 0.05, 6),
        log_loss=round(0.6 - 0.5 * (auc - 0.5), 6),
        cpu_seconds=round(slower * training / 3e10, 3),
        latency_ms=round(waiting * (cached + (flops - candidate) / 3e7), 4),
        cached_ms=round(waiting * cached, 4),
    )
