"""More than one epoch: plain, and with embedding tables drawn again before each epoch (EST, section 5.5).

    python benchmarks/epochs_table.py prepared/ runs/epochs --model est --length 50 --set kept=10 --counts 2,4

For each seed one epoch; then, for each count, plain epochs, tables reset to where the run began, tables reset
to those of the finished one-epoch run (a "historical model"), and tables drawn again (MEDA). Runs that are
there are skipped. Scores are those of a server that appends to states (slack of a quarter of the length).
"""

import argparse
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
from movielens_table import table

from clickscale import workflow
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train


def policies(first: Path, counts: list[int]) -> dict[str, Epochs]:
    """Every way to train, by name; ``first`` is the run of one epoch."""
    found = {"one epoch": Epochs(count=1)}
    for count in counts:
        found |= {
            f"{count} epochs, plain": Epochs(count=count),
            f"{count} epochs, reset to the start": Epochs(count=count, reset="snapshot"),
            f"{count} epochs, reset to a historical model": Epochs(
                count=count, reset="snapshot", snapshot=str(first)
            ),
            f"{count} epochs, drawn again": Epochs(count=count, reset="random"),
        }
    return found


def run_cell(out: Path, config: TrainConfig, part: str) -> None:
    """Train and measure one run, unless that is done."""
    if not (out / "done.json").is_file():
        result = train(config, out, progress=False)
        if not result.finished:
            raise SystemExit(result.exit_code)
    if not (out / f"evaluation-{part}.json").is_file():
        slack = config.length // 4
        auc = workflow.evaluate(out, part=part, slack=slack, bootstrap=200).labels[0].metrics["auc"].value
        print(f"{out}: AUC {auc:.4f}", flush=True)


def main() -> None:
    """Run the grid and print a table for each way against one epoch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="est")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--counts", default="2,4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="options of the model")
    parser.add_argument("--part", default="test", choices=("valid", "test"))
    parser.add_argument("--bootstrap", type=int, default=1000)
    arguments = parser.parse_args()
    by_name: dict[str, list[Path]] = {}
    for seed in range(arguments.seeds):
        first = arguments.out / f"one-epoch-seed{seed}"
        for name, epochs in policies(first, [int(text) for text in arguments.counts.split(",")]).items():
            config = TrainConfig(
                model=arguments.model,
                data=str(arguments.data),
                grade=arguments.grade,
                model_options=tuple(arguments.set),
                length=arguments.length,
                seed=seed,
                epochs=epochs,
                threads=1,
            )
            folder = arguments.out / f"{name.replace(',', '').replace(' ', '-')}-seed{seed}"
            run_cell(folder, config, arguments.part)
            by_name.setdefault(name, []).append(folder)
    print("\n| epochs | AUC | GAUC | log-loss | AUC against one epoch | GAUC against one epoch |")
    print("|---|---|---|---|---|---|")
    base = by_name["one epoch"]
    for name, folders in by_name.items():
        rows = table(base + (folders if folders is not base else []), arguments.bootstrap)
        row = rows[0 if folders is base else 1]  # the last rows are the constant rate and item popularity
        print(f"| {name} |" + row.split("|", 2)[2], flush=True)


if __name__ == "__main__":
    main()
