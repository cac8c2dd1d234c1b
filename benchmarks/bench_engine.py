"""What the engine of the server gains: order by cost, batches, kept states; ratios of rounds that alternate.

    python benchmarks/bench_engine.py PREPARED [--model lightsuan] [--grade size-2] [--length 200]

The model is not trained, since times depend on shapes only. Requests are mixed as in a feed with a few large
pages: nine of ten have 20 candidates, one has 1,000. The load is Poisson at 0.7 of what one worker can do.
"""

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch

from clickscale.artifact import save_artifact
from clickscale.data.dataset import open_dataset
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.models import build_model
from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.versions.served_model import RankWork, ScoringConfig, ServedModel, load_model

SMALL, LARGE, SHARE = 20, 1_000, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--model", default="lightsuan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = artifact(options, Path(folder))
        batches(path, options)
        states(path, options)
        order(path, options)


def artifact(options: argparse.Namespace, folder: Path) -> Path:
    dataset = open_dataset(options.prepared)
    labels = dataset.features.labels[:1]
    model = build_model(
        options.model,
        dataset.features,
        dataset.item_columns(),
        grade=options.grade,
        length=options.length,
        labels=labels,
    )
    return save_artifact(
        folder / "artifact",
        model.eval(),
        dataset.encoder,
        dataset.item_columns(),
        model_name=options.model,
        grade=options.grade,
        length=options.length,
        labels=labels,
        metrics={},
    )


def works(model: ServedModel, count: int, candidates: int, behaviors: int, seed: int = 0) -> list[RankWork]:
    encoder = model.artifact.encoder
    return [RankWork(one) for one in sample_requests(encoder, count, candidates, behaviors, seed=seed)]


def batches(path: Path, options: argparse.Namespace) -> None:
    """Requests a second of a full queue, with and without batches."""
    for candidates in (5, 50, 500):
        speeds: dict[int, list[float]] = {1: [], 16: []}
        model = load_model(path, "", ScoringConfig())
        todo = works(model, 64, candidates, options.length)
        for _ in range(options.rounds):
            for size in speeds:
                speeds[size].append(
                    asyncio.run(_drained(model, todo, EngineConfig(batch=size, batch_ms=1e6)))
                )
        ratio = median(b / a for a, b in zip(speeds[1], speeds[16], strict=True))
        print(
            f"batches of 16, {candidates} candidates: {ratio:.2f} times the requests per second", flush=True
        )


async def _drained(model: ServedModel, todo: list[RankWork], config: EngineConfig) -> float:
    """Requests a second of jobs that all wait from the start."""
    engine = Engine(EngineConfig(batch=config.batch, batch_ms=config.batch_ms, queue_ms=1e9, queue=100_000))
    begin = time.perf_counter()
    await asyncio.gather(*(engine.run(model, w, model.shape(w), time.monotonic() + 1e4) for w in todo))
    speed = len(todo) / (time.perf_counter() - begin)
    engine.close()
    return speed


def states(path: Path, options: argparse.Namespace) -> None:
    """Requests a second with kept states against without."""
    for candidates in (50, 500):
        cached = load_model(path, "", ScoringConfig(), StateCache(CacheConfig(admit_after=1)))
        fresh = load_model(path, "", ScoringConfig())
        todo = works(cached, 64, candidates, options.length)
        asyncio.run(_drained(cached, todo, EngineConfig(batch=1)))
        ratios = []
        for _ in range(options.rounds):
            speeds = [asyncio.run(_drained(model, todo, EngineConfig(batch=1))) for model in (fresh, cached)]
            ratios.append(speeds[1] / speeds[0])
        print(f"kept states, {candidates} candidates: {median(ratios):.2f} times the requests a second")


def order(path: Path, options: argparse.Namespace) -> None:
    """Percentiles of a mixed load, by arrival and by cost."""
    model = load_model(path, "", ScoringConfig(), StateCache(CacheConfig(admit_after=1)))
    pools = {size: works(model, 32, size, options.length, seed=size) for size in (SMALL, LARGE)}
    for pool in pools.values():
        for one in pool:
            model.score([one])
    seconds = {size: _seconds(model, pool) for size, pool in pools.items()}
    mean = (1 - SHARE) * seconds[SMALL] + SHARE * seconds[LARGE]
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(options.rounds):
        for by_cost in found:
            arrivals = _arrivals(pools, 0.7 / mean, options.seconds, number)
            found[by_cost].append(asyncio.run(_mixed(model, arrivals, by_cost)))
    print(f"a small request takes {seconds[SMALL] * 1e3:.1f} ms, a large one {seconds[LARGE] * 1e3:.1f} ms")
    for name in found[True][0]:
        ratio = median(b[name] / a[name] for a, b in zip(found[False], found[True], strict=True))
        times = [median(one[name] for one in found[by]) * 1e3 for by in (False, True)]
        print(f"{name}: by arrival {times[0]:.1f} ms, by cost {times[1]:.1f} ms, ratio {ratio:.2f}")


def _seconds(model: ServedModel, pool: list[RankWork]) -> float:
    times = []
    for one in pool:
        begin = time.perf_counter()
        model.score([one])
        times.append(time.perf_counter() - begin)
    return median(times)


def _arrivals(
    pools: dict[int, list[RankWork]], rate: float, seconds: float, seed: int
) -> list[tuple[float, int, RankWork]]:
    chooser = random.Random(seed)
    moment, found = 0.0, []
    while (moment := moment + chooser.expovariate(rate)) < seconds:
        size = LARGE if chooser.random() < SHARE else SMALL
        found.append((moment, size, chooser.choice(pools[size])))
    return found


async def _mixed(
    model: ServedModel, arrivals: list[tuple[float, int, RankWork]], by_cost: bool
) -> dict[str, float]:
    engine = Engine(EngineConfig(batch=1, queue_ms=1e9), by_cost=by_cost)
    took: dict[int, list[float]] = {SMALL: [], LARGE: []}
    begin = time.perf_counter()

    async def one(moment: float, size: int, work: Any) -> None:
        await asyncio.sleep(max(0.0, moment - (time.perf_counter() - begin)))
        await engine.run(model, work, model.shape(work), time.monotonic() + 1e3)
        took[size].append(time.perf_counter() - begin - moment)

    await asyncio.gather(*(one(*arrival) for arrival in arrivals))
    engine.close()
    both = took[SMALL] + took[LARGE]
    return {
        "p50 of all": float(np.percentile(both, 50)),
        "p99 of all": float(np.percentile(both, 99)),
        "p99 of small": float(np.percentile(took[SMALL], 99)),
        "p99 of large": float(np.percentile(took[LARGE], 99)),
    }


if __name__ == "__main__":
    main()
