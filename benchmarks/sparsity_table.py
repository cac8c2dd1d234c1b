"""Accuracy lost to sparse attention: LightSUAN by dilation, length and seed, one epoch each.

    python benchmarks/sparsity_table.py prepared/ runs/sparsity --dilations 1,2,4,8 --lengths 100,200,500
    python benchmarks/sparsity_table.py prepared/ runs/sparsity --patterns 1:1,4:2,8:4,16:4,16:8 --lengths 100
    python benchmarks/sparsity_table.py prepared/ runs/sparsity --patterns 2:1,2:4:paper,2:4:block_head:all

Runs that are there are skipped, so the script continues where it stopped. The base of the tests is full
attention, r = 1. Scores are those of a server that keeps states and appends to them (``--slack``, a quarter
of the length by default; 0 encodes the last L behaviors for every request). Choose with ``--part valid``,
which is measured without slack.
"""

import argparse
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
from movielens_table import table

from clickscale import workflow
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train


def run_cell(data: Path, out: Path, options: tuple[str, ...], length: int, seed: int, grade: str) -> None:
    """Train one cell, unless it is there."""
    config = TrainConfig(
        model="lightsuan",
        data=str(data),
        grade=grade,
        model_options=options,
        length=length,
        epochs=Epochs(count=1),
        seed=seed,
        threads=1,
    )
    if not (out / "done.json").is_file():
        result = train(config, out, progress=False)
        if not result.finished:
            raise SystemExit(result.exit_code)
        print(f"{out.name}: {result.samples_per_second:.0f} samples/s", flush=True)


def patterns(dilations: str, pairs: str | None) -> dict[str, tuple[str, ...]]:
    """Options of the models by name."""
    if pairs is None:
        return {f"r{r}": (f"r={r}",) for r in dilations.split(",")}
    found = {}
    for pair in pairs.split(","):
        k, r, *rest = pair.split(":")
        options = zip(("phase", "candidates_read"), rest, strict=False)
        name = "-".join((f"k{k}", f"r{r}", *rest))
        found[name] = (f"k={k}", f"r={r}", *(f"{option}={value}" for option, value in options))
    return found


def main() -> None:
    """Train the grid, measure it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dilations", default="1,2,4,8", help="values of r, with the default k")
    parser.add_argument("--patterns", help="instead: k:r[:phase[:candidates_read]]; the first is the base")
    parser.add_argument("--lengths", default="100,200,500")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="options of all models")
    parser.add_argument("--part", default="test", choices=("valid", "test"))
    parser.add_argument("--slack", type=int, help="default: a quarter of the length")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--bootstrap", type=int, default=1000)
    arguments = parser.parse_args()
    cells = patterns(arguments.dilations, arguments.patterns)
    for length in map(int, arguments.lengths.split(",")):
        slack = length // 4 if arguments.slack is None else arguments.slack
        slack = 0 if arguments.part == "valid" else slack
        folders = []
        for seed in range(arguments.seeds):
            for name, pattern in cells.items():
                options = (*arguments.set, *pattern)
                folder = arguments.out / f"lightsuan-{name}-L{length}-seed{seed}"
                run_cell(arguments.data, folder, options, length, seed, arguments.grade)
                if not (arguments.only_train or (folder / f"evaluation-{arguments.part}.json").is_file()):
                    workflow.evaluate(folder, part="test", slack=slack)
                folders.append(folder)
        if not arguments.only_train:
            print(f"\nL = {length}, slack {slack}\n")
            print("| model | AUC | GAUC | log-loss | AUC against | GAUC against |\n|---|---|---|---|---|---|")
            print("\n".join(table(folders, arguments.bootstrap, arguments.part)), flush=True)


if __name__ == "__main__":
    main()
