"""LightSUAN by dilation, phase and what candidates read: time to encode and to score, and bytes of states.

    python benchmarks/bench_sparsity.py [--lengths 100:60 200:500] [--set d=16] [--rounds 40]

Untrained models of size-2 and a made-up request of so many behaviors and candidates (``L:CANDIDATES``), one
thread, in one process, in turns. Times are medians of CPU time in percent of full attention; ``state`` is the
bytes of a state for scoring in fp32.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import configured  # noqa: F401 - first, for its effect
import torch

from clickscale.costs.flops import reference_features, reference_items
from clickscale.costs.latency import made_up_request
from clickscale.models import build_model

READS = ("pattern", "all")


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of each work, in turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if number:  # the first round warms up
                found[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in found.items()}


def measure(length: int, candidates: int, overrides: tuple[str, ...], rounds: int) -> None:
    """Rows of one length."""
    features = reference_features()
    items = reference_items(features)
    cells = {"full attention": ("r=1",)}
    for r in (2, 4):
        for phase in ("paper", "head", "block_head"):
            for read in READS:
                cells[f"r={r} {phase} {read}"] = (f"r={r}", f"phase={phase}", f"candidates_read={read}")
    models = {
        name: build_model(
            "lightsuan", features, items, grade="size-2", length=length, overrides=(*overrides, *options)
        ).eval()
        for name, options in cells.items()
    }
    user, side = made_up_request(features, length, candidates)
    states = {name: model.scoring_state(model.encode_user(user)) for name, model in models.items()}
    encode = medians({name: partial(model.encode_user, user) for name, model in models.items()}, rounds)
    score = medians(
        {name: partial(model.score, states[name], side) for name, model in models.items()}, rounds
    )
    for name in cells:
        shares = [f"{times[name] / times['full attention']:.0%}" for times in (encode, score)]
        cells_of_row = (f"{length}, {candidates}", name, *shares, f"{states[name].nbytes:,}")
        print("| " + " | ".join(cells_of_row) + " |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", nargs="+", default=["100:60", "200:500"], metavar="L:CANDIDATES")
    parser.add_argument(
        "--set", action="append", default=["d=16"], metavar="A.B=C", help="options of all models"
    )
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| L, candidates | model | encode | score | state |\n|---|---|--:|--:|--:|")
    with torch.inference_mode():
        for pair in options.lengths:
            length, candidates = map(int, pair.split(":"))
            measure(length, candidates, tuple(options.set), options.rounds)


if __name__ == "__main__":
    main()
