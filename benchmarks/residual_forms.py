"""Which residual form of SUAN is better: `prenorm` or `code`, over seeds, on the validation part.

    python benchmarks/residual_forms.py prepared/ --grade size-2
    python benchmarks/residual_forms.py prepared/ --grade size-4 --share 0.2 --precision bf16

Both forms see the same batches in the same order, and the learning rate runs through its whole schedule within
the share of the epoch that is trained. The paired t-test is over seeds.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import torch

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import seeds_t_test
from clickscale.models import build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optim import OptimizerConfig, build_optimizer

FORMS = ("prenorm", "code")
MEASURES = ("auc", "gauc", "log_loss")


def measure(dataset: Dataset, form: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Train one model and measure it."""
    torch.manual_seed(seed)
    loader = Loader(dataset, "train", LoaderConfig(length=arguments.length, seed=seed))
    model = build_model(
        "suan",
        dataset.features,
        dataset.item_columns(),
        grade=arguments.grade,
        length=arguments.length,
        overrides=(f"block.residual={form}",),
    )
    objective = ClickLoss(model, dataset.labels[:1]).train()
    steps = int(len(loader) * arguments.share)
    optimizer = build_optimizer(model, OptimizerConfig(), steps)
    for step, batch in enumerate(islice(loader.batches(), steps)):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = objective(batch)[LOSS]
        loss.backward()
        optimizer.step(loss, step)
    found = predict(model, dataset, "valid", length=arguments.length, grouping="timeline")
    labels, logits = found.labels[:, 0], found.logits[:, 0]
    return {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, found.user),
        "log_loss": log_loss(labels, logits),
    }


def main() -> None:
    """Measure both forms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the epoch to train")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(arguments.data)
    results: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for seed in range(arguments.seeds):
        for form in FORMS:
            results[form].append(measure(dataset, form, seed, arguments))
            print(json.dumps({"form": form, "seed": seed, **results[form][-1]}), flush=True)
    print("\n| form | " + " | ".join(MEASURES) + " |\n|---|---|---|---|")
    for form in FORMS:
        means = [sum(run[name] for run in results[form]) / arguments.seeds for name in MEASURES]
        print(f"| {form} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    for name in MEASURES:
        pair = [[run[name] for run in results[form]] for form in reversed(FORMS)]
        test = seeds_t_test(*pair)
        print(
            f"code - prenorm, {name}: {test.delta:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p {test.p_value:.3f}"
        )


if __name__ == "__main__":
    main()
