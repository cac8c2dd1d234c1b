"""Speed of a model in this checkout against another checkout of the project: training, and one request.

    git worktree add ../before COMMIT
    python benchmarks/bench_checkouts.py PREPARED ../before --model est [--set csa=none]

Every round runs both checkouts, one after the other, each in a process of its own. It trains one epoch of the
impressions of every n-th user, and scores one request of a user with a full history, encoding included. One
thread, CPU seconds, medians over rounds with the smallest and the largest ratio; above 1 this checkout is
faster. Both must take the same options. ``logits`` shows that both compute the same.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from measure import SomeUsers, Training

from clickscale.costs.latency import made_up_request
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.models import build_model

HERE = Path(__file__).resolve().parents[1]


def once(options: argparse.Namespace) -> dict[str, float]:
    """Measure the checkout whose package is imported."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, options.every)
    model = build_model(
        options.model,
        dataset.features,
        dataset.item_columns(),
        grade=options.grade,
        length=options.length,
        overrides=options.set,
    )
    user, candidates = made_up_request(dataset.features, options.length, options.candidates)
    model.eval()
    times = []
    with torch.inference_mode():
        logits = model.score(model.encode_user(user), candidates)
        for _ in range(9):
            start = time.process_time()
            model.score(model.encode_user(user), candidates)
            times.append(time.process_time() - start)
    loading = LoaderConfig(length=options.length, batch_size=options.samples)
    training = Training(model.train(), Loader(dataset, "train", loading))
    start = time.process_time()
    samples = training.epoch()
    return {
        "training, samples per CPU-second": samples / (time.process_time() - start),
        "request, CPU ms": 1000 * statistics.median(times),
        "logits": float(logits.abs().sum()),
    }


def main() -> None:
    """Measure both checkouts in turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--model", default="est")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--set", action="append", default=[], metavar="A=B", help="options of the model")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--samples", type=int, default=1024, help="impressions in a batch")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--every", type=int, default=64, help="use every n-th user only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="measure the package on the path, print JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options)))
        return
    found: dict[Path, list[dict[str, float]]] = {HERE: [], options.before.resolve(): []}
    for _ in range(options.rounds):
        for checkout, results in found.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--once"]
            path = {**os.environ, "PYTHONPATH": str(checkout)}
            results.append(json.loads(subprocess.check_output(command, env=path)))
    now, before = found.values()
    print("| | before | now | ratio |\n|---|--:|--:|---|")
    for name in now[0]:
        ratios = [
            b[name] / n[name] if "ms" in name else n[name] / b[name] for n, b in zip(now, before, strict=True)
        ]
        medians = [statistics.median(run[name] for run in runs) for runs in (before, now)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        print(f"| {name} | {medians[0]:,.1f} | {medians[1]:,.1f} | {spread} |")


if __name__ == "__main__":
    main()
