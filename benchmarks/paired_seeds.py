"""Two ways to train one model, side by side over seeds: which is better, and by how much.

    python benchmarks/paired_seeds.py prepared/ --a block.residual=prenorm --b block.residual=code
    python benchmarks/paired_seeds.py prepared/ --grade size-4 --share 0.2 --precision bf16 \\
        --a block.residual=prenorm --b block.residual=code
    python benchmarks/paired_seeds.py prepared/ --share 0.2 --part test \\
        --a grouping=impression --b grouping=timeline

An option of the loader (grouping, window, samples) is taken as such, anything else is one of the model. The
learning rate runs through its whole schedule within the share of the epoch that is trained. Seed for seed,
both start from the same random state; the paired t-test is over seeds.
"""

import argparse
import json
import time
from itertools import islice
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import torch

from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import seeds_t_test
from clickscale.models import build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer

MEASURES = ("auc", "gauc", "log_loss", "samples_per_cpu_second")
LOADER = tuple(LoaderConfig.__struct_fields__)


def measure(
    dataset: Dataset, options: list[str], seed: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Train one model and measure it."""
    torch.manual_seed(seed)
    mine = [option for option in options if option.partition("=")[0] in LOADER]
    loading = override(LoaderConfig(length=arguments.length, seed=seed), mine)
    loader = Loader(dataset, "train", loading)
    model = build_model(
        arguments.model,
        dataset.features,
        dataset.item_columns(),
        grade=arguments.grade,
        length=arguments.length,
        overrides=[option for option in options if option not in mine],
    )
    objective = ClickLoss(model, dataset.labels[:1]).train()
    steps = int(len(loader) * arguments.share)
    optimizer = build_optimizer(model, OptimizerConfig(), steps)
    samples, start = 0, time.process_time()
    for step, batch in enumerate(islice(loader.batches(), steps)):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = objective(batch)[LOSS]
        loss.backward()
        optimizer.step(loss, step)
        samples += batch.samples
    speed = samples / (time.process_time() - start)
    found = predict(model, dataset, arguments.part, length=arguments.length, grouping=arguments.measure)
    labels, logits = found.labels[:, 0], found.logits[:, 0]
    return {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, found.user),
        "log_loss": log_loss(labels, logits),
        "samples_per_cpu_second": speed,
    }


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--a", required=True, help="options of the first, key=value, separated by blanks")
    parser.add_argument("--b", required=True, help="options of the second")
    parser.add_argument("--model", default="suan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the epoch to train")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--part", default="valid", choices=("valid", "test"))
    parser.add_argument("--measure", default="timeline", choices=("timeline", "request"), help="grouping")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(arguments.data)
    results: dict[str, list[dict[str, float]]] = {arguments.a: [], arguments.b: []}
    for seed in range(arguments.seeds):
        for options, found in results.items():
            found.append(measure(dataset, options.split(), seed, arguments))
            print(json.dumps({"options": options, "seed": seed, **found[-1]}), flush=True)
    print("\n| options | " + " | ".join(MEASURES) + " |\n|---|---|---|---|---|")
    for options, found in results.items():
        means = [sum(run[name] for run in found) / len(found) for name in MEASURES]
        print(f"| {options} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    for name in MEASURES if arguments.seeds > 1 else ():
        first, second = ([run[name] for run in found] for found in results.values())
        test = seeds_t_test(second, first)
        print(f"second - first, {name}: {test.delta_text}, p {test.p_text}")


if __name__ == "__main__":
    main()
