"""Speed of evaluation as served in this checkout against another checkout of the project.

    git worktree add ../before COMMIT
    python benchmarks/bench_evaluation.py PREPARED ../before [--model suan] [--length 100] [--part test]

Every round scores a part, with users left out, in a process of each checkout, one after the other. One
thread, CPU seconds, medians over rounds with the smallest and the largest ratio; above 1 this checkout is
faster. The largest difference of a logit between the two is printed beside.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import SomeUsers

from clickscale.evaluation.evaluate import predict
from clickscale.models import build_model

HERE = Path(__file__).resolve().parents[1]


def once(options: argparse.Namespace) -> None:
    """Print samples per CPU-second of the checkout whose package is imported; write its logits."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = SomeUsers(options.prepared, options.every)
    model = build_model(
        options.model,
        dataset.features,
        dataset.item_columns(),
        grade=options.grade,
        length=options.length,
    )
    start = time.process_time()
    found = predict(model, dataset, options.part, length=options.length)
    print(len(found.row) / (time.process_time() - start))
    np.save(options.once, found.logits)


def main() -> None:
    """Measure both checkouts in turns and print a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--model", default="suan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--part", default="test")
    parser.add_argument("--every", type=int, default=16, help="use every n-th user only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", type=Path, help="measure the package on the path, write its logits")
    options = parser.parse_args()
    if options.once:
        once(options)
        return
    checkouts = (HERE, options.before.resolve())
    speeds: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.npy" for number in range(2)]
        for _ in range(options.rounds):
            for checkout, file, found in zip(checkouts, files, speeds, strict=True):
                command = [sys.executable, __file__, *sys.argv[1:], "--once", str(file)]
                path = {**os.environ, "PYTHONPATH": str(checkout)}
                found.append(float(subprocess.check_output(command, env=path)))
        apart = np.abs(np.load(files[0]) - np.load(files[1])).max()
    ratios = [now / before for now, before in zip(*speeds, strict=True)]
    now, before = (statistics.median(each) for each in speeds)
    print(
        f"{options.model} {options.grade}, L = {options.length}, {options.part}:"
        f" {before:,.0f} -> {now:,.0f} samples per CPU-second,"
        f" {statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f}), logits within {apart:.1e}"
    )


if __name__ == "__main__":
    main()
