"""Students alone, their teachers and distilled students on one data set, over seeds.

    python benchmarks/distillation_table.py prepared/ runs/distill --teachers suan:size-3:100
    python benchmarks/distillation_table.py prepared/ runs/distill --teachers suan:size-3:100 \\
        --seeds 1 --part valid --recipe paper
    python benchmarks/distillation_table.py prepared/ runs/distill --teachers suan:size-3:100 --together

Runs that are there are skipped, so the script continues where it stopped. Seed for seed, the student alone
starts from the weights of the distilled one, and has the same recipe: equal epochs, batches and rates.
``--together`` adds a student that learned together with its teacher. The last rows tell the share of the gap
between the student alone and its teacher that is closed, from the means over the seeds.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, for its effect
import msgspec

from clickscale import workflow
from clickscale.costs.flops import measure_cost
from clickscale.report.comparison import MEASURES, Line, compare, gap_cells
from clickscale.report.results import with_interval
from clickscale.sealed import write_document
from clickscale.training.distill.distill_config import DistillConfig, distill_config
from clickscale.training.distill.distillation import distill
from clickscale.training.run.folder import STUDENT, load_run
from clickscale.training.run_state import RunResult
from clickscale.training.train import train

ALONE, TEACHER, TAUGHT, TOGETHER = "student alone", "teacher", "distilled student", "distilled together"


@dataclass(frozen=True)
class Cell:
    """One distillation and what it is compared with, for one seed."""

    out: Path
    config: DistillConfig

    @property
    def alone(self) -> Path:
        """Run of the student without a teacher, which all teachers share."""
        return self.out / f"{_name(self.config.student)}-seed{self.config.seed}"

    @property
    def pair(self) -> Path:
        """Run of both."""
        return self.out / f"{_name(self.config.teacher)}-teaches-{self._tagged}"

    @property
    def together(self) -> Path:
        """Run of both in one pass."""
        return self.out / f"{_name(self.config.teacher)}-together-{self._tagged}"

    @property
    def _tagged(self) -> str:
        config = self.config
        given = {name: getattr(config, name) for name in ("temperature", "weight", "ramp", "soft_labels")}
        tags = [f"{name}{value}" for name, value in given.items() if value is not None]
        return "-".join([_name(config.student), config.recipe, *tags, config.head, f"seed{config.seed}"])

    def folders(self, together: bool) -> dict[str, Path]:
        """Runs to measure, by the name of their row."""
        found = {ALONE: self.alone, TEACHER: self.pair / "teacher", TAUGHT: self.pair / "student"}
        return found | ({TOGETHER: self.together / "student"} if together else {})

    def train(self, together: bool) -> None:
        """Train what is not there yet."""
        _finished(train(self.config.own_run(STUDENT), self.alone, progress=False))
        _finished(distill(self.config, self.pair, progress=False))
        if together:
            config = msgspec.structs.replace(self.config, teacher_first=False)
            _finished(distill(config, self.together, progress=False))


def _name(choice: object) -> str:
    return str(choice).replace(":", "-")


def _finished(result: RunResult) -> None:
    """Stop with the run that a signal stopped."""
    if not result.finished:
        raise SystemExit(result.exit_code)
    print(f"{result.folder.name}: {result.samples_per_second:.0f} samples/s", flush=True)


def measure(folder: Path, part: str) -> None:
    """Measure one run as served, unless that is done."""
    if not (folder / f"evaluation-{part}.json").is_file():
        if not (folder / "cost.json").is_file():
            run = load_run(folder)
            cost = measure_cost(run.model, run.dataset.features, run.config.length, workflow.CANDIDATES)
            write_document(folder / "cost.json", cost.to_dict())
        workflow.evaluate(folder, part=part, bootstrap=200)
    auc = workflow.run_results(folder, part)[0].auc.value
    print(f"{folder}: {part} AUC {auc:.4f}", flush=True)


def against(mine: list[Path], theirs: list[Path], part: str, bootstrap: int) -> tuple[Line, Line]:
    """The lines of two models, the second tested against the first."""
    first, second, *_ = compare(
        [workflow.entrant(each, part) for each in [*theirs, *mine]], bootstrap=bootstrap
    )
    return first, second


def difference(line: Line, measure: str) -> str:
    """Mean difference over seeds with its p-values over users and over seeds."""
    users, seeds = line.against[measure], line.seeds_test.get(measure)
    if seeds is None:
        return f"{users.delta:+.4f} (p {users.p_value:.3f}, -)"
    return f"{seeds.delta:+.4f} (p {users.p_value:.3f}, {seeds.p_value:.3f})"


def rows(cells: list[Cell], part: str, together: bool, bootstrap: int) -> Iterator[str]:
    """Markdown rows of one teacher, then the tests."""
    by_row = {name: [cell.folders(together)[name] for cell in cells] for name in cells[0].folders(together)}
    taught = [name for name in (TAUGHT, TOGETHER) if name in by_row]
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
        values = [with_interval(line.values[measure]) for measure in MEASURES]
        yield f"| {name} | {len(folders)} | {' | '.join(values)} | {gflops:.4f} |"
    yield "\n| difference, p over users of the first seed, p over seeds | AUC | GAUC | log-loss |"
    yield "|---|---|---|---|"
    for name, line in tests:
        yield f"| {name} | " + " | ".join(difference(line, m) for m in MEASURES) + " |"
    runs = [*by_row[ALONE], *by_row[TEACHER], *by_row[TAUGHT]]
    lines = compare([workflow.entrant(each, part) for each in dict.fromkeys(runs)], bootstrap=bootstrap)
    (closed,) = (line.gap_closed for line in lines if line.gap_closed)
    yield f"| {TAUGHT}, share of the gap closed | " + " | ".join(gap_cells(closed)) + " |"


def main() -> None:
    """Train the grid, measure it, print a table for each teacher."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--student", default="lightsuan:size-2:100")
    parser.add_argument("--teachers", default="suan:size-3:100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", choices=("accurate", "fast", "paper"), default="accurate")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--weight", type=float)
    parser.add_argument("--ramp", type=float)
    parser.add_argument("--head", choices=("same", "aux"), default="same")
    parser.add_argument("--together", action="store_true", help="also learn together with the teachers")
    parser.add_argument("--part", choices=("valid", "test"), default="test")
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
            cell.train(arguments.together)
            for folder in cell.folders(arguments.together).values():
                measure(folder, arguments.part)
        print("\n" + title(cells[0], teacher, arguments) + "\n")
        print("\n".join(rows(cells, arguments.part, arguments.together, arguments.bootstrap)), flush=True)


def title(cell: Cell, teacher: str, arguments: argparse.Namespace) -> str:
    """The sentence under a table: its numbers, and how its requests were put together."""
    folders = cell.folders(arguments.together).values()
    groupings = dict.fromkeys(workflow.run_results(each, arguments.part)[0].grouping for each in folders)
    given = [f"{name} {value}" for name, value in _flags(arguments, 0).items() if name != "threads"]
    told = f"part {arguments.part}, grouping {' and '.join(groupings)}"
    return f"{teacher} teaches {arguments.student}, {', '.join(given[:-1])}; {told}"


def _flags(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Options of one distillation."""
    names = ("recipe", "temperature", "weight", "ramp", "head", "threads")
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None} | {"seed": seed}


if __name__ == "__main__":
    main()
