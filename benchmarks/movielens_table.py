"""Make the table of docs/results.md: models x lengths x seeds on one prepared data set.

    python benchmarks/movielens_table.py prepared/ runs/table --models mlp,din,suan --lengths 50,100,200

Runs that are already evaluated are skipped, so the script continues where it stopped. Every model is trained
by the defaults of `clickscale train` but for what ``--set`` says, and measured on the test part as served.
The table shows the mean over seeds, the 95% interval over users, and paired tests against the first model.
"""

import argparse
from pathlib import Path

import configured  # noqa: F401 - first, for its effect

from clickscale import workflow
from clickscale.costs.flops import measure_cost
from clickscale.report.comparison import Line, compare
from clickscale.report.results import with_interval
from clickscale.sealed import write_document
from clickscale.training.run.folder import load_run
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train


def run_cell(data: Path, out: Path, config: TrainConfig) -> None:
    """Train and measure one cell, unless it is there."""
    if (out / "evaluation-test.json").is_file():
        return
    result = train(config, out, progress=False)
    if not result.finished:
        raise SystemExit(result.exit_code)
    run = load_run(out)
    cost = measure_cost(run.model, run.dataset.features, config.length, workflow.CANDIDATES)
    write_document(out / "cost.json", cost.to_dict())
    report = workflow.evaluate(out, part="test")
    label = report.labels[0]
    print(
        f"{out.name}: AUC {label.metrics['auc'].value:.4f} GAUC {label.metrics['gauc'].value:.4f} "
        f"({result.samples_per_second:.0f} samples/s)",
        flush=True,
    )


def tested(line: Line, measure: str) -> str:
    """Difference to the first model with both p-values: over users, and over seeds."""
    if measure not in line.against:
        return ""
    users, seeds = line.against[measure], line.seeds_test.get(measure)
    over_seeds = f", {seeds.p_text}" if seeds else ""
    return f"{users.delta:+.4f} (p {users.p_text}{over_seeds})"


def table(folders: list[Path], bootstrap: int, part: str = "test") -> list[str]:
    """Markdown rows of the runs of one length, tested against the first model."""
    rows = []
    for line in compare([workflow.entrant(folder, part) for folder in folders], bootstrap=bootstrap):
        cells = [line.name, with_interval(line.values["auc"]), with_interval(line.values["gauc"])]
        cells += [f"{line.values['log_loss'].value:.4f}", tested(line, "auc"), tested(line, "gauc")]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Run the grid and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default="din,mlp,suan", help="the first one is the base of the tests")
    parser.add_argument("--lengths", default="50,100,200")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="options of the models")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trees", action="store_true", help="add boosted trees")
    parser.add_argument("--only-table", action="store_true", help="train nothing, show what is there")
    parser.add_argument("--bootstrap", type=int, default=1000)
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    for length in map(int, arguments.lengths.split(",")):
        folders = []
        for seed in range(arguments.seeds):
            for model in models:
                config = TrainConfig(
                    model=model,
                    data=str(arguments.data),
                    grade=arguments.grade,
                    model_options=tuple(arguments.set),
                    length=length,
                    seed=seed,
                    threads=arguments.threads,
                )
                folder = arguments.out / f"{model}-{arguments.grade}-L{length}-seed{seed}"
                if not arguments.only_table:
                    run_cell(arguments.data, folder, config)
                folders.append(folder)
            if arguments.trees:
                folders.append(trees(arguments.data, arguments.out, seed))
        print(f"\nL = {length}\n\n| model | AUC | GAUC | log-loss | AUC against | GAUC against |")
        print("|---|---|---|---|---|---|")
        finished = [folder for folder in folders if (folder / "evaluation-test.json").is_file()]
        print("\n".join(table(finished, arguments.bootstrap)), flush=True)


def trees(data: Path, out: Path, seed: int) -> Path:
    """Fit the trees, unless it is there; it does not depend on the length."""
    folder = out / f"trees-seed{seed}"
    if not (folder / "evaluation-test.json").is_file():
        workflow.train_trees(data, folder, seed=seed, threads=1)
    return folder


if __name__ == "__main__":
    main()
