"""Gain by a teacher: student without teacher, teacher, distilled student, over seeds, one epoch each.

    python benchmarks/distillation_table.py prepared/ runs/distill --student lightsuan:size-2:100 \\
        --teachers suan:size-3:200,suan:size-4:200 --part valid
    python benchmarks/distillation_table.py prepared/ runs/distill --temperature 4 --weight 4 --head aux
    python benchmarks/distillation_table.py prepared/ runs/distill --offline  # from the finished teachers

Runs that are there are skipped, so the script continues where it stopped. Seed for seed, the student alone
starts from the weights of the distilled one and sees the same windows of timelines. Scores are those of a
server that keeps states and appends to them (``--slack``, a quarter of each model's length by default), or,
with ``--grouping``, of that grouping.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, for its effect
import msgspec
from movielens_table import shown

from clickscale import workflow
from clickscale.costs.flops import measure_cost
from clickscale.report.comparison import Line, compare
from clickscale.sealed import write_document
from clickscale.training.distill.distill_config import STUDENT, DistillConfig, distill_config
from clickscale.training.distill.distillation import distill
from clickscale.training.run.folder import load_run
from clickscale.training.run_state import RunResult
from clickscale.training.train import train

ALONE, TEACHER, ONLINE, OFFLINE = "student alone", "teacher", "distilled student", "distilled offline"


@dataclass(frozen=True)
class Cell:
    """One distillation and what it is compared with, for one seed."""

    out: Path
    config: DistillConfig

    @property
    def alone(self) -> Path:
        """Run of the student without a teacher; teachers of one length share it."""
        return (
            self.out / f"{_name(self.config.student)}-window{max(self.config.lengths)}-seed{self.config.seed}"
        )

    @property
    def together(self) -> Path:
        """Run of both."""
        return self.out / f"{_name(self.config.teacher)}-teaches-{self._tagged}"

    @property
    def offline(self) -> Path:
        """Run of the student that learns from the finished teacher of `together`."""
        return self.out / f"{_name(self.config.teacher)}-offline-{self._tagged}"

    @property
    def _tagged(self) -> str:
        config = self.config
        tags = f"-t{config.temperature:g}-w{config.weight:g}-{config.head}"
        return f"{_name(config.student)}{tags}-seed{config.seed}"

    def folders(self, offline: bool) -> dict[str, Path]:
        """Runs to measure, by the name of their row."""
        found = {ALONE: self.alone, TEACHER: self.together / "teacher", ONLINE: self.together / "student"}
        return found | ({OFFLINE: self.offline / "student"} if offline else {})

    def train(self, offline: bool) -> None:
        """Train what is not there yet."""
        _finished(train(self.config.own_run(STUDENT), self.alone, progress=False))
        _finished(distill(self.config, self.together, progress=False))
        if offline:
            taught = {"teacher": None, "teacher_run": str(self.together / "teacher")}
            config = msgspec.structs.replace(self.config, **taught)
            _finished(distill(config, self.offline, progress=False))


def _name(choice: object) -> str:
    return str(choice).replace(":", "-")


def _finished(result: RunResult) -> None:
    """Stop with the run that a signal stopped."""
    if not result.finished:
        raise SystemExit(result.exit_code)
    print(f"{result.folder.name}: {result.samples_per_second:.0f} samples/s", flush=True)


def measure(folder: Path, part: str, grouping: str | None, slack: int | None) -> None:
    """Measure one run, unless that is done."""
    length = workflow.run_options(folder)["length"]
    slack = (length // 4 if slack is None else slack) if grouping is None else 0
    options = json.dumps({"grouping": grouping or "request", "slack": slack})
    asked, report = folder / f"asked-{part}.json", folder / f"evaluation-{part}.json"
    if not (report.is_file() and asked.is_file() and asked.read_text("utf-8") == options):
        if not (folder / "cost.json").is_file():
            run = load_run(folder)
            cost = measure_cost(run.model, run.dataset.features, length, workflow.CANDIDATES)
            write_document(folder / "cost.json", cost.to_dict())
        workflow.evaluate(folder, part=part, grouping=grouping or "request", slack=slack, bootstrap=200)  # type: ignore[arg-type]
        asked.write_text(options, "utf-8")
    auc = workflow.run_results(folder, part)[0].auc.value
    print(f"{folder}: {part} AUC {auc:.4f}", flush=True)


def against(mine: list[Path], theirs: list[Path], part: str, bootstrap: int) -> tuple[Line, Line]:
    """The lines of two models, the second tested against the first."""
    first, second = compare([workflow.entrant(each, part) for each in [*theirs, *mine]], bootstrap=bootstrap)
    return first, second


def difference(line: Line, measure: str) -> str:
    """Mean difference over seeds with its p-values over users and over seeds."""
    users, seeds = line.against[measure], line.seeds_test.get(measure)
    if seeds is None:
        return f"{users.delta:+.4f} (p {users.p_value:.3f}, -)"
    return f"{seeds.delta:+.4f} (p {users.p_value:.3f}, {seeds.p_value:.3f})"


def rows(cells: list[Cell], part: str, offline: bool, bootstrap: int) -> Iterator[str]:
    """Markdown rows of one teacher, then the tests."""
    by_row = {name: [cell.folders(offline)[name] for cell in cells] for name in cells[0].folders(offline)}
    taught = [name for name in (ONLINE, OFFLINE) if name in by_row]
    yield "| model | seeds | AUC | GAUC | log-loss | GFLOPs, 60 candidates |\n|---|--:|---|---|---|--:|"
    tests = []
    for name, folders in by_row.items():
        if name in taught:
            pairs = [(base, against(folders, by_row[base], part, bootstrap)[1]) for base in (ALONE, TEACHER)]
            tests += [(f"{name} - {base}", line) for base, line in pairs]
            (line, *_) = [line for _, line in pairs]
        else:
            line = compare([workflow.entrant(each, part) for each in folders], bootstrap=0)[0]
        gflops = workflow.run_results(folders[0], part)[0].gflops
        values = [shown(line.values[measure]) for measure in ("auc", "gauc", "log_loss")]
        yield f"| {name} | {len(folders)} | {' | '.join(values)} | {gflops:.4f} |"
    yield "\n| difference, p over users of the first seed, p over seeds | AUC | GAUC | log-loss |"
    yield "|---|---|---|---|"
    for name, line in tests:
        yield f"| {name} | " + " | ".join(difference(line, m) for m in ("auc", "gauc", "log_loss")) + " |"


def main() -> None:
    """Train the grid, measure it, print a table for each teacher."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--student", default="lightsuan:size-2:100")
    parser.add_argument("--teachers", default="suan:size-3:200,suan:size-4:200")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--weight", type=float, default=2.0)
    parser.add_argument("--head", choices=("same", "aux"), default="same")
    parser.add_argument("--offline", action="store_true", help="also learn from the finished teachers")
    parser.add_argument("--part", choices=("valid", "test"), default="test")
    parser.add_argument("--grouping", choices=("request", "timeline", "impression"), help="instead of slack")
    parser.add_argument("--slack", type=int, help="default: a quarter of each model's length")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as clickscale distill")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-table", action="store_true", help="train nothing, show what is there")
    parser.add_argument("--bootstrap", type=int, default=1000)
    arguments = parser.parse_args()
    for teacher in arguments.teachers.split(","):
        cells = [
            Cell(
                arguments.out,
                distill_config(
                    arguments.student,
                    arguments.data,
                    teacher=teacher,
                    flags=_flags(arguments, seed),
                    sets=arguments.set,
                ),
            )
            for seed in range(arguments.seeds)
        ]
        for cell in cells if not arguments.only_table else ():
            cell.train(arguments.offline)
            for folder in cell.folders(arguments.offline).values():
                measure(folder, arguments.part, arguments.grouping, arguments.slack)
        print("\n" + title(cells[0], teacher, arguments) + "\n")
        print("\n".join(rows(cells, arguments.part, arguments.offline, arguments.bootstrap)), flush=True)


def title(cell: Cell, teacher: str, arguments: argparse.Namespace) -> str:
    """The sentence under a table: its numbers, and how its requests were put together."""
    folders = cell.folders(arguments.offline).values()
    groupings = dict.fromkeys(workflow.run_results(each, arguments.part)[0].grouping for each in folders)
    return (
        f"{teacher} teaches {arguments.student}, {arguments.head} head, t {arguments.temperature:g},"
        f" weight {arguments.weight:g}; part {arguments.part}, grouping {' and '.join(groupings)}"
    )


def _flags(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Options of one distillation."""
    shared = {name: getattr(arguments, name) for name in ("temperature", "weight", "head", "threads")}
    return shared | {"seed": seed}


if __name__ == "__main__":
    main()
