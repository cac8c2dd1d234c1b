"""Loss of accuracy when EST's full attention is trained without some blocks (Liu et al. 2026, table 1).

    python benchmarks/est_blocks.py prepared/ runs/blocks --share 0.1 --seeds 3
    python benchmarks/est_blocks.py prepared/ runs/blocks --share 0.1 --set kept=20 --only-table

Seed for seed, all start from the same weights and see the same impressions. What is measured is skipped, so
the script continues where it stopped. The learning rate runs through its whole schedule within the share of
the epoch that is trained. `clickscale analyze blocks` cuts the same blocks of one trained model instead.
"""

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import torch

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.label_report import compare_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.significance import seeds_t_test
from clickscale.models import build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer

WHOLE = "whole"
MEASURES = ("auc", "gauc", "log_loss")


def train(dataset: Dataset, without: str, seed: int, arguments: argparse.Namespace) -> Predictions:
    """Train without one block and score the part as served."""
    torch.manual_seed(seed)
    loading = LoaderConfig(
        grouping="request", length=arguments.length, batch_size=arguments.samples, seed=seed
    )
    loader = Loader(dataset, "train", loading)
    masked = [] if without == WHOLE else [without]
    model = build_model(
        "est_full",
        dataset.features,
        dataset.item_columns(),
        grade=arguments.grade,
        length=arguments.length,
        overrides=[*arguments.set, f"mask_blocks={json.dumps(masked)}"],
    )
    objective = ClickLoss(model, dataset.labels[:1]).train()
    steps = max(int(len(loader) * arguments.share), 1)
    optimizer = build_optimizer(model, OptimizerConfig(), steps)
    for step, batch in enumerate(islice(loader.batches(), steps)):
        loss = objective(batch)[LOSS]
        loss.backward()
        optimizer.step(loss, step)
    return predict(model, dataset, arguments.part, length=arguments.length, batch_size=arguments.samples)


def measured(dataset: Dataset, without: str, seed: int, arguments: argparse.Namespace) -> Predictions | None:
    """Predictions of one cell, made if they are not there; None if they are not and only a table is asked."""
    options = "".join(f"-{option}" for option in sorted(arguments.set)).replace("/", "_")
    about = f"{arguments.grade}-L{arguments.length}-share{arguments.share:g}-n{arguments.samples}{options}"
    path = arguments.out / about / f"{arguments.part}-{without}-seed{seed}.safetensors"
    if path.is_file():
        return Predictions.load(path)
    if arguments.only_table:
        return None
    start = time.perf_counter()
    found = train(dataset, without, seed, arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    print(f"{path}: {time.perf_counter() - start:.0f} s", flush=True)
    return found


def row(without: str, cuts: list[Predictions], wholes: list[Predictions], bootstrap: int) -> str:
    """A line of the table: means over seeds, and differences with p over users and over seeds."""
    pairs = list(zip(cuts, wholes, strict=True))
    tests = [
        compare_predictions(cut, whole, bootstrap=bootstrap if not place else 0).labels[0]
        for place, (cut, whole) in enumerate(pairs)
    ]
    cells = [without if without == WHOLE else f"<{without[0]}, {without[1]}>", str(len(pairs))]
    cells += [f"{sum(test.a[name] for test in tests) / len(tests):.4f}" for name in MEASURES]
    for name in () if without == WHOLE else ("auc", "gauc"):
        users = tests[0].bootstrap[name]
        delta = sum(test.a[name] - test.b[name] for test in tests) / len(tests)
        seeds = "-"
        if len(tests) > 1:
            seeds = seeds_t_test([t.a[name] for t in tests], [t.b[name] for t in tests]).p_text
        cells.append(f"{delta:+.4f} (p {users.p_text}, {seeds})")
    return "| " + " | ".join(cells + [""] * (7 - len(cells))) + " |"


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--blocks", default="NN,NB,BN,BB", help="to train without: query, key")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--samples", type=int, default=512, help="impressions in a batch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the epoch to train")
    parser.add_argument("--set", action="append", default=[], metavar="A=B", help="options of the model")
    parser.add_argument("--part", default="test", choices=("valid", "test"))
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--only-table", action="store_true", help="train nothing, show what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(arguments.data)
    names = (WHOLE, *arguments.blocks.split(","))
    cells = [[measured(dataset, name, seed, arguments) for name in names] for seed in range(arguments.seeds)]
    print("\n| without | seeds | AUC | GAUC | log-loss | AUC - whole (p users, seeds) | GAUC - whole |")
    print("|---|--:|---|---|---|---|---|")
    for place, name in enumerate(names):
        pairs = [(found[place], found[0]) for found in cells]
        done = [(cut, whole) for cut, whole in pairs if cut is not None and whole is not None]
        if done:
            print(row(name, [cut for cut, _ in done], [whole for _, whole in done], arguments.bootstrap))


if __name__ == "__main__":
    main()
