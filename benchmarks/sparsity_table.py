"""What sparse attention costs in accuracy: LightSUAN by dilation, length and seed, one epoch each.

    python benchmarks/sparsity_table.py prepared/ runs/sparsity --dilations 1,2,4,8 --lengths 100,200,500

Runs that are there are skipped, so the script continues where it stopped. The base of the tests is full
attention, r = 1. Scores are those of a server that keeps states and appends to them (``--slack``, a quarter
of the length by default; 0 encodes the last L behaviors for every request).
"""

import argparse
from pathlib import Path

from movielens_table import table

from clickscale import runs
from clickscale.training import loop
from clickscale.training.run import TrainConfig


def run_cell(data: Path, out: Path, dilation: int, length: int, seed: int, grade: str) -> None:
    """Train one cell, unless it is there."""
    config = TrainConfig(
        model="lightsuan",
        data=str(data),
        grade=grade,
        model_options=(f"r={dilation}",),
        length=length,
        seed=seed,
        threads=1,
    )
    if not (out / "done.json").is_file():
        result = loop.train(config, out, progress=False)
        if not result.finished:
            raise SystemExit(result.exit_code)
        print(f"{out.name}: {result.samples_per_second:.0f} samples/s", flush=True)


def main() -> None:
    """Train the grid, measure it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dilations", default="1,2,4,8")
    parser.add_argument("--lengths", default="100,200,500")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--slack", type=int, help="default: a quarter of the length")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--bootstrap", type=int, default=1000)
    arguments = parser.parse_args()
    dilations = [int(text) for text in arguments.dilations.split(",")]
    for length in map(int, arguments.lengths.split(",")):
        slack = length // 4 if arguments.slack is None else arguments.slack
        folders = []
        for seed in range(arguments.seeds):
            for dilation in dilations:
                folder = arguments.out / f"lightsuan-r{dilation}-L{length}-seed{seed}"
                run_cell(arguments.data, folder, dilation, length, seed, arguments.grade)
                if not (arguments.only_train or (folder / "evaluation-test.json").is_file()):
                    runs.evaluate(folder, part="test", slack=slack)
                folders.append(folder)
        if not arguments.only_train:
            print(f"\nL = {length}, slack {slack}\n")
            print("| model | AUC | GAUC | log-loss | AUC against | GAUC against |\n|---|---|---|---|---|---|")
            print("\n".join(table(folders, arguments.bootstrap)), flush=True)


if __name__ == "__main__":
    main()
