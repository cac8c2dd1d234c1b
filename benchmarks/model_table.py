"""What every model reads, shares and costs, as the Markdown table of docs/models/README.md.

    python benchmarks/model_table.py PREPARED [--length 100] [--width 8] [--steps 20]

Size-2, one thread, CPU time. Training takes batches of 256 in the grouping that suits the model. A request
has a full history and 500 candidates: `fresh` encodes the user in it, `cached` has the state kept.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, since it sets the memory of the process
import torch
from measure import Training

from clickscale.costs.flops import measure_cost
from clickscale.costs.latency import compare_latency
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.models import CTRModel, build_model, describe, model_names

ROUNDS = 5  # over the same batches
HEADERS = (
    "model",
    "paper",
    "trained by",
    "dense parameters",
    "GFLOPs",
    "samples/CPU-s",
    "fresh, ms",
    "cached, ms",
)


def samples_per_second(model: CTRModel[Any], dataset: Dataset, length: int, steps: int) -> float:
    """Training samples per CPU-second in the grouping that the recipe takes for such a model, a median."""
    grouping = "impression" if not model.shares else "timeline" if model.causal else "request"
    config = LoaderConfig(grouping=grouping, length=length, window=4, batch_size=256, prefetch=0)
    training = Training(model, Loader(dataset, "train", config))
    batches = [batch for batch, _ in zip(training.loader.batches(), range(steps + 3), strict=False)]
    for batch in batches[:3]:
        training.step(batch)
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for batch in batches[3:]:
            training.step(batch)
        seconds.append(time.process_time() - started)
    return sum(batch.samples for batch in batches[3:]) / statistics.median(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--width", type=int, default=8, help="of one feature's embedding (d)")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.prepared)
    features, columns = dataset.features, dataset.item_columns()
    print("| " + " | ".join(HEADERS) + " |")
    print("|---|---|---|" + "--:|" * (len(HEADERS) - 3))
    for name in model_names():
        torch.manual_seed(0)
        model = build_model(name, features, columns, length=options.length, overrides=[f"d={options.width}"])
        speed = samples_per_second(model.train(), dataset, options.length, options.steps)
        cost = measure_cost(model, features, options.length)
        timings = compare_latency({name: (model.eval(), options.length)}, features, 500, repeats=15)[name]
        cells = [
            f"`{name}`",
            describe(name).rstrip("."),
            "timeline" if model.causal and model.shares else "request" if model.shares else "impression",
            f"{cost.dense / 1e3:,.0f}k",
            f"{cost.gflops:.3f}",
            f"{speed:,.0f}",
            f"{timings['parallel'].p50:.1f}",
            f"{timings['cached'].p50:.1f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
