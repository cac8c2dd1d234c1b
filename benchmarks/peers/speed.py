"""Training samples per CPU second of our models and of the same models of torch-rechub and DeepCTR-Torch.

    python benchmarks/peers/speed.py PREPARED --python PEERS/bin/python [--rounds 5] [--models din,bst]

All take the same rows (the training impressions of every 64th user) with the same fields: the categorical
ones of a single value. Embeddings are 16 wide, a history has 50 behaviors, a batch 1,024 impressions, the
tower 256 and 128 units. One thread, one epoch of each in turn, CPU time, medians over the rounds. Ours counts
its loader, clipping and schedule; of the libraries only the step counts, with batches that are gathered at
once (see README.md).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the benchmarks' own modules

import configured  # noqa: F401 - first, since it sets the memory of the process
import numpy as np
import torch
from bench_din import simple
from export import describe, gather
from measure import SomeUsers, Training, speeds
from msgspec.structs import replace
from peer_steps import BATCH, LENGTH, TOWER, WIDTH

from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.features import Features
from clickscale.models import build_model

HERE = Path(__file__).parent
PEERS = ("deepctr-torch", "torch-rechub")
POOLED = ("inputs.sequence=mean",)
OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "din": ("din", ("hidden=36",)),
    "dien": ("dien", ()),
    "dien-loss": ("dien", ("auxiliary=1",)),
    "bst": ("bst", ("blocks=1", "heads=2")),
    "autoint": ("autoint", ("layers=3", "heads=2", "head_width=8", *POOLED)),
    "dcnv2": ("dcnv2", ("layers=3", *POOLED)),
    "dcnv2-mixture": ("dcnv2", ("layers=3", "cross=mixture", "rank=32", "experts=4", *POOLED)),
    "deepfm": ("deepfm", POOLED),
}


class Peer:
    """A library in a process of its own, which works when it is asked."""

    def __init__(self, python: str, peer: str, rows: Path) -> None:
        words = [python, str(HERE / "peer_steps.py"), peer, str(rows)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def seconds(self, model: str) -> float | None:
        """CPU seconds of an epoch of a model; None if the library does not have it."""
        assert self.process.stdin is not None, "opened as a pipe"
        assert self.process.stdout is not None, "opened as a pipe"
        print(model, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        return None if answer == "none" else float(answer)


def write_rows(dataset: SomeUsers, features: Features, folder: Path) -> int:
    """Write the training rows as the libraries read them; how many there are."""
    names = {one.name for side in (features.profile, features.item, features.behavior) for one in side}
    columns = [
        column
        for column in describe(dataset)
        if column.kind in ("index", "history") and (column.table or column.name) in names
    ]
    arrays = gather(dataset, dataset.part("train"), LENGTH)
    kept = {name: arrays[name] for name in (*(one.name for one in columns), "label", "history_length")}
    np.savez(folder / "train.npz", **kept)
    (folder / "columns.json").write_text(json.dumps([asdict(column) for column in columns]))
    return len(kept["label"])


def ours(dataset: SomeUsers, features: Features, name: str, grouping: Grouping) -> Callable[[], int]:
    """Trains one of our models for an epoch."""
    model, options = OURS[name]
    tower = f"head.hidden=[{','.join(map(str, TOWER))}]"
    overrides = (f"d={WIDTH}", tower, *options)
    made = build_model(model, features, dataset.item_columns(), length=LENGTH, overrides=overrides)
    loading = LoaderConfig(grouping=grouping, length=LENGTH, window=8, batch_size=BATCH, prefetch=0)
    return Training(made.train(), Loader(dataset, "train", loading)).epoch


def main() -> None:
    """Print a table of samples per CPU second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--python", required=True, help="of the libraries' environment")
    parser.add_argument("--every", type=int, default=64, help="use every n-th user only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=",".join(OURS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = SomeUsers(options.prepared, options.every)
    every = dataset.features
    features = replace(
        every,
        profile=simple(every.profile),
        item=simple(every.item),
        behavior=simple(every.behavior),
        context=(),
    )
    with tempfile.TemporaryDirectory() as folder:
        count = write_rows(dataset, features, Path(folder))
        peers = {peer: Peer(options.python, peer, Path(folder)) for peer in PEERS}
        print(f"{count:,} rows\n\n| model | ours | {' | '.join(f'{p} | ours / it' for p in PEERS)} |")
        print(f"|---|--:|{'--:|--:|' * len(PEERS)}", flush=True)
        for name in options.models.split(","):
            torch.manual_seed(0)
            # A model that shares the user side is trained as the recipe does it.
            grouping: Grouping = "timeline" if name.startswith("dien") else "impression"
            epoch = ours(dataset, features, name, grouping)
            mine: list[float] = []
            theirs: dict[str, list[float]] = {peer: [] for peer in PEERS}
            for _ in range(options.rounds):
                mine += speeds({name: epoch}, 1)[name]
                for peer, process in peers.items():
                    if (seconds := process.seconds(name)) is not None:
                        theirs[peer].append(count / seconds)
            cells = [f"{statistics.median(mine):,.0f}"]
            for values in theirs.values():
                ratios = [a / b for a, b in zip(mine, values, strict=False)]
                cells += (
                    [
                        f"{statistics.median(values):,.0f}",
                        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                    ]
                    if values
                    else ["", ""]
                )
            print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
