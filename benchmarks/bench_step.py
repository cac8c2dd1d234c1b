"""A small training step and one ranking request of SUAN size-2, against another checkout of this project.

    python benchmarks/bench_step.py PREPARED [--against CHECKOUT] [--batches 64,256] [--rounds 7]
    python benchmarks/bench_step.py PREPARED [--length 100] [--window 4] [--grade size-3] [--set d=16]

Training is by timelines, by default of 8 impressions of a user and L = 50: batches of many users with few
neighboring impressions each, where the fixed cost of a step weighs most. A request ranks 500 candidates over
a state that was kept for scoring. One thread; every round is a fresh process, the two checkouts in turns.
Times are CPU seconds. Without ``--against`` only this checkout is measured. ``losses`` is the sum over the
first steps of training, which shows that both compute the same.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import configured  # noqa: F401
import torch
from measure import SomeUsers, Training

from clickscale.batch import CandidateSide
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.models import CTRModel, build_model

CANDIDATES, STEPS = 500, 60


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Samples per CPU-second by batch size, and milliseconds of a request."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, 4)
    model = build_model(
        options.model,
        dataset.features,
        dataset.item_columns(),
        grade=options.grade,
        length=options.length,
        overrides=options.set,
    )
    found = {}
    for size in map(int, options.batches.split(",")):
        config = LoaderConfig(length=options.length, window=options.window, batch_size=size, prefetch=0)
        training = Training(model, Loader(dataset, "train", config))
        steps = [batch for batch, _ in zip(training.loader.batches(), range(STEPS), strict=False)]
        found[f"training, batches of {size}, losses"] = sum(training.step(batch) for batch in steps)
        started = time.process_time()
        for batch in steps:
            training.step(batch)
        samples = sum(batch.samples for batch in steps)
        found[f"training, batches of {size}"] = samples / (time.process_time() - started)
    found[f"ranking {CANDIDATES} candidates, ms"] = ranking(model.eval(), dataset, options.length)
    return found


def ranking(model: CTRModel, dataset: SomeUsers, length: int) -> float:
    """Milliseconds of scoring candidates over a kept state, the median of 100 requests."""
    config = LoaderConfig(grouping="request", length=length, batch_size=64, shuffle=False, prefetch=0)
    batch = next(
        batch for batch in Loader(dataset, "test", config).batches() if bool(batch.user.mask[0].all())
    )
    shape, one = (1, CANDIDATES), batch.candidates
    items = torch.randint(2, len(dataset.item_columns()["field.item"]), shape)
    visible = torch.full(shape, batch.user.mask.shape[1])
    context = one.context[:1, :1].expand(1, CANDIDATES, -1)
    numbers = one.context_numbers[:1, :1].expand(1, CANDIDATES, -1)
    times = one.times[:1, :1].expand(shape)
    side = CandidateSide(items, context, numbers, times, torch.zeros_like(visible), visible)
    seconds = []
    with torch.inference_mode():
        state = model.scoring_state(model.encode_user(batch.user)).split()[0]
        for _ in range(110):
            started = time.process_time()
            model.score(state, side)
            seconds.append(time.process_time() - started)
    return statistics.median(seconds[10:]) * 1e3


def elsewhere(checkout: Path, options: argparse.Namespace) -> dict[str, float]:
    """`measured` in a fresh process that imports the package of a checkout."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("--against", type=Path, help="another checkout, the yardstick")
    parser.add_argument("--model", default="suan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--window", type=int, default=8, help="impressions of a user in a batch")
    parser.add_argument("--set", action="append", default=[], metavar="A=B", help="options of the model")
    parser.add_argument("--batches", default="64,256", help="impressions in a training step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options)))
        return
    here = Path(__file__).resolve().parent.parent
    checkouts = [here, *([options.against.resolve()] if options.against else [])]
    rounds = [[elsewhere(checkout, options) for checkout in checkouts] for _ in range(options.rounds)]
    for name in rounds[0][0]:
        ours = [results[0][name] for results in rounds]
        line = f"{name:36} {statistics.median(ours):10,.1f} ({min(ours):,.1f}-{max(ours):,.1f})"
        if options.against:
            quotients = [results[0][name] / results[1][name] for results in rounds]
            gains = [1 / q if name.endswith("ms") else q for q in quotients]
            line += f"  {statistics.median(gains):6.2f}x ({min(gains):.2f}-{max(gains):.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
