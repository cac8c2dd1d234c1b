"""Effect of a server's window policy on scores: trained runs replayed with several slacks.

    python benchmarks/window_policy.py RUN [RUN ...] [--data PREPARED] [--part test] [--slacks 0,0.25,1]

A slack is given as a share of the run's length L: a server appends to a state of L behaviors until it would
hold more than L + S, and then encodes the last L again. With slack 0 every request is encoded again, which is
what the other lines are compared with; the line ``timeline`` is the grouping that training uses. Differences
are of logits, over the impressions of users who have more than L behaviors (all others score alike).
"""

import argparse
import time
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch

from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.predictions import Predictions
from clickscale.training.run.folder import TrainedRun, load_run

HEADER = "grouping                AUC      GAUC     log-loss  max |dlogit|  mean |dlogit|  moved   CPU s"


def line(found: Predictions, base: Predictions, length: int, seconds: float) -> str:
    """One way to evaluate the first label, and how far its logits are from those of the base."""
    known = found.label_mask[:, 0]
    labels, logits, users = found.labels[known, 0], found.logits[known, 0], found.user[known]
    change = np.abs(found.logits - base.logits)[found.behaviors > length]
    most, mean = (float(change.max()), float(change.mean())) if change.size else (0.0, 0.0)
    moved = float((change > 1e-5).mean()) if change.size else 0.0
    return (
        f"{found.grouping:20} {auc(labels, logits):.5f}  {gauc(labels, logits, users):.5f}"
        f"  {log_loss(labels, logits):.5f}  {most:12.5f}  {mean:13.6f}  {moved:5.0%}  {seconds:6.1f}"
    )


def measured(run: TrainedRun, part: str, shares: list[float]) -> None:
    """Print a line for each slack, and one for timelines."""
    length = run.config.length
    slacks = [round(share * length) for share in shares]
    ways = [("request", slack) for slack in dict.fromkeys([0, *slacks])] + [("timeline", 0)]
    base = None
    for grouping, slack in ways:
        started = time.process_time()
        found = predict(
            run.model,
            run.dataset,
            part,
            length=length,
            grouping=grouping,  # type: ignore[arg-type]
            slack=slack,
            labels=run.labels,
        )
        base = base or found
        print(line(found, base, length, time.process_time() - started), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished training runs")
    parser.add_argument("--data", type=Path, help="prepared data set, if not where it was")
    parser.add_argument("--part", default="test")
    parser.add_argument("--slacks", default="0,0.25,1", help="shares of L")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for folder in options.runs:
        run = load_run(folder, options.data)
        config = run.config
        print(
            f"{folder}: {config.model} {config.grade}, L = {config.length}, trained with slack {config.slack}"
        )
        print(HEADER)
        measured(run, options.part, [float(share) for share in options.slacks.split(",")])


if __name__ == "__main__":
    main()
