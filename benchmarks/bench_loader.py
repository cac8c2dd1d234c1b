"""Speed of the loader by itself against what DIN consumes, and how long training waits for data.

    python benchmarks/bench_loader.py PREPARED [--length 100] [--rounds 5]

For each grouping: impressions per CPU-second of only the loader, of only training (forward, backward and
step of DIN size-2 on batches that are already there), and their ratio, measured in turns in one process with
one thread. Then the share of wall time that a training loop with the loader's thread waits for its batch.
"""

import argparse
import statistics
import time
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import torch
from measure import SomeUsers, Training, speeds
from msgspec.structs import replace

from clickscale.batch import Batch
from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.models import build_model


def waiting(training: Training, loader: Loader) -> float:
    """Share of the wall time of an epoch that training waits for batches."""
    waited, started = 0.0, time.perf_counter()
    mark = started
    for batch in loader.batches():
        waited += time.perf_counter() - mark
        training.step(batch)
        mark = time.perf_counter()
    return waited / (mark - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=32, help="use every n-th user only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, options.every)
    groupings: tuple[Grouping, ...] = ("timeline", "request", "impression")
    for grouping in groupings:
        config = LoaderConfig(grouping=grouping, length=options.length, prefetch=0)
        loader = Loader(dataset, "train", config)
        model = build_model("din", dataset.features, dataset.item_columns(), length=options.length)
        training = Training(model, loader)
        ready = list(loader.batches())

        def load(loader: Loader = loader) -> int:
            return sum(batch.samples for batch in loader.batches())

        def train(training: Training = training, ready: list[Batch] = ready) -> int:
            for batch in ready:
                training.step(batch)
            return sum(batch.samples for batch in ready)

        found = speeds({"load": load, "train": train}, options.rounds)
        ratios = [a / b for a, b in zip(found["load"], found["train"], strict=True)]
        ahead = Loader(dataset, "train", replace(config, prefetch=2))
        shares = [waiting(training, ahead) for _ in range(options.rounds)]
        print(
            f"{grouping:12} loader {statistics.median(found['load']):10,.0f}/CPU-s"
            f"   DIN {statistics.median(found['train']):8,.0f}/CPU-s"
            f"   {statistics.median(ratios):5.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
            f"   training waits {statistics.median(shares):.1%} of its time",
            flush=True,
        )


if __name__ == "__main__":
    main()
