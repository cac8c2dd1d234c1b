"""Training SUAN size-2: samples per CPU-second of timeline, request and impression grouping.

    python benchmarks/bench_grouping.py PREPARED [--model suan] [--length 100] [--windows 25,50,100]

One thread, one process, in turns; all features of the data set. Speed only: that the groupings learn the same
is measured by training.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import torch
from measure import SomeUsers, Training, show, speeds

from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.models import build_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("--model", default="suan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--windows", default="25,50,100,200", help="of timeline grouping")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=64, help="use every n-th user only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, options.every)

    def side(grouping: Grouping, window: int = 0) -> Callable[[], int]:
        config = LoaderConfig(grouping=grouping, length=options.length, window=window)
        model = build_model(
            options.model,
            dataset.features,
            dataset.item_columns(),
            grade=options.grade,
            length=options.length,
        )
        training = Training(model, Loader(dataset, "train", config))
        return training.epoch

    works = {"impression": side("impression"), "request": side("request")}
    works |= {f"timeline, window {w}": side("timeline", int(w)) for w in options.windows.split(",")}
    works["timeline, default window"] = side("timeline")
    show(speeds(works, options.rounds), "impression")


if __name__ == "__main__":
    main()
