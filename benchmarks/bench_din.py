"""Training DIN: samples per CPU-second against a bare PyTorch loop written by hand.

    python benchmarks/bench_din.py PREPARED [--length 50] [--rounds 5]

Both train the same network (embeddings of width 16, attention of 36 Dice units, tower 256-128 with batch norm
and Dice) on the same rows, one thread, in one process, in turns. The bare loop is what a good engineer writes
for one data set: a padded copy of the history in every row, all of it in memory as tensors before the clock
starts, batches by permuted index, `nn.Embedding`, fused Adam; no loader, no checks, no clipping, no schedule.
Fields of several values and numbers are left out on both sides, so that the bare loop stays simple.
"""

import argparse
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch
from bare_din import DIM, HIDDEN, BareDIN
from measure import SomeUsers, Training, show, speeds
from msgspec.structs import replace
from torch import Tensor
from torch.nn import functional

from clickscale.data.dataset import Dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.features import Feature, Features
from clickscale.models.din import DIN, PRESETS

BATCH = 1024
WINDOWS = (8, 16, 32, 50)


def simple(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """Categorical features of one value."""
    return tuple(f for f in features if f.kind == "categorical" and f.values == 1)


def simple_features(dataset: Dataset) -> Features:
    """The features that both sides use."""
    every = dataset.features
    return replace(every, profile=simple(every.profile), item=simple(every.item), context=())


def copied(dataset: Dataset, features: Features, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Profile, candidate, history and label of every training row, as the bare loop holds them."""
    rows = dataset.part("train")
    impressions, behaviors = dataset.impressions, dataset.behaviors
    user = np.asarray(impressions["user"])[rows]
    end = np.asarray(dataset.users["offsets"])[user] + np.asarray(impressions["visible"])[rows]
    place = end[:, None] - length + np.arange(length)  # (N, L)
    there = place >= np.asarray(dataset.users["offsets"])[user][:, None]
    place = np.where(there, place, 0)
    seen = np.where(there, np.asarray(behaviors["item"])[place], 0)
    history = [np.asarray(dataset.items[f"field.{f.name}"])[seen] for f in features.item]
    history += [np.where(there, behaviors[f"field.{f.name}"][place], 0) for f in features.behavior]
    item = np.asarray(impressions["item"])[rows]
    candidate = [dataset.items[f"field.{f.name}"][item] for f in features.item]
    profile = [dataset.users[f"field.{f.name}"][user] for f in features.profile]
    label = np.asarray(impressions[f"label.{dataset.labels[0]}"])[rows]
    parts = [torch.from_numpy(np.stack(x, -1).astype(np.int64)) for x in (profile, candidate, history)]
    return parts[0], parts[1], parts[2], torch.from_numpy(label.astype(np.float32))


class BareLoop:
    """The loop written by hand."""

    def __init__(self, dataset: Dataset, features: Features, length: int) -> None:
        *self.inputs, self.label = copied(dataset, features, length)
        sides = features.profile, features.item, features.behavior
        self.model = BareDIN(*([feature.size for feature in side] for side in sides))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-3, fused=True)

    def epoch(self) -> int:
        """Train all rows once, in random order; the number of rows."""
        order = torch.randperm(len(self.label))
        for rows in order.split(BATCH):
            logits = self.model(*(x[rows] for x in self.inputs))
            loss = functional.binary_cross_entropy_with_logits(logits, self.label[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return len(order)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=32, help="use every n-th user only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, options.every)
    features = simple_features(dataset)
    config = replace(PRESETS["size-3"], d=DIM, hidden=HIDDEN)

    def ours(**grouping: object) -> Training:
        loading = LoaderConfig(length=options.length, batch_size=BATCH, **grouping)  # type: ignore[arg-type]
        model = DIN(features, dataset.item_columns(), config, options.length, 1)
        return Training(model, Loader(dataset, "train", loading))

    sides: dict[str, BareLoop | Training] = {"bare loop": BareLoop(dataset, features, options.length)}
    sides["impression"] = ours(grouping="impression")
    sides["request"] = ours(grouping="request")
    sides |= {f"timeline, window {w}": ours(window=w) for w in WINDOWS}
    sides["timeline, default window"] = ours()
    works = {name: side.epoch for name, side in sides.items()}
    show(speeds(works, options.rounds), "bare loop")


if __name__ == "__main__":
    main()
