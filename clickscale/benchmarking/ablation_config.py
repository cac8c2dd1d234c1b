"""Options of an ablation, and its cells: each is one run in a folder of its own, made by ordinary commands.

::

    runs/A-size-2/seed-0        a run of variant A at one grade
    runs/A-size-2/seed-0.log    what its commands said
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from clickscale.benchmarking.benchmark_config import sets_of
from clickscale.benchmarking.options_file import claim_options, refuse_other_work
from clickscale.benchmarking.paper_tables import TABLES, Paper, PaperTable, Variant
from clickscale.benchmarking.work import RunCell
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError, unknown
from clickscale.training.run.run_config import TrainConfig, train_config

_FREE = ("tables", "grades", "seeds", "data", "ids")  # more of them only adds cells; the data may move


class AblationConfig(Config, frozen=True, kw_only=True):
    """Options of an ablation.

    Attributes:
        paper: whose tables: ``suan`` or ``est``.
        data: folder of a prepared data set with a validation part.
        ids: the same data set with semantic ids as item features, for one line of EST's table 2; without it
            that line is missing.
        tables: numbers of the tables; empty for all.
        grades: presets of sizes; the first one is that of all tables, the others join SUAN's table 5.
        length: behaviors that a candidate sees at most.
        label: label to train and to measure; the first one if empty.
        seeds: runs of each line.
        sets: ``KEY=VALUE`` options of all runs, or ``MODEL.KEY=VALUE`` options of one model's runs.
    """

    paper: Paper
    data: str
    ids: str = ""
    tables: tuple[str, ...] = ()
    grades: tuple[str, ...] = ("size-2", "size-3")
    length: int = 100
    label: str = ""
    seeds: int = 3
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least(self, 1, "length", "seeds")
        known = [table.number for table in TABLES[self.paper]]
        for number in self.tables:
            if number not in known:
                raise ConfigError(unknown(f"table of {self.paper}", number, known))
        if not self.grades or len(set(self.grades)) < len(self.grades):
            raise ConfigError(f"The grades are {list(self.grades)}; name at least one, and each once.")
        if self.ids and self.paper != "est":
            raise ConfigError("ids is for EST's table 2; the tables of SUAN have no line about content.")

    def sections(self) -> "list[Section]":
        """The tables, each once for every grade that it has, without lines whose data were not given."""
        return [
            Section(replace(table, others=tuple(filter(self._has_data, table.others))), grade)
            for table in TABLES[self.paper]
            if not self.tables or table.number in self.tables
            for grade in (self.grades if table.all_grades else self.grades[:1])
        ]

    def _has_data(self, variant: Variant) -> bool:
        return bool(self.ids) or not variant.needs_ids

    def lines(self) -> "dict[str, TrainedLine]":
        """Lines of all sections by name; one that several sections show comes once."""
        return {str(line): line for section in self.sections() for line in section.lines}

    def data_of(self, variant: Variant) -> str:
        """Data set of the runs of a variant."""
        return self.ids if variant.needs_ids else self.data

    def assignments(self, variant: Variant) -> list[str]:
        """Texts for ``--set`` of the runs of a variant; what makes the variant wins."""
        # One checkpoint is enough to continue, and an ablation has many runs.
        return ["keep=1", *sets_of(variant.model, self.sets), *variant.options]

    def run(self, variant: Variant, grade: str) -> TrainConfig:
        """Options of the runs of a variant, but for the seed."""
        flags = {"grade": grade, "length": self.length, "labels": [self.label] if self.label else []}
        return train_config(
            variant.model, Path(self.data_of(variant)), flags=flags, sets=self.assignments(variant)
        )


@dataclass(frozen=True)
class Section:
    """A table at one grade."""

    table: PaperTable
    grade: str

    @property
    def title(self) -> str:
        """Number, question and grade."""
        return f"Table {self.table.number}: {self.table.title} ({self.grade})"

    @property
    def lines(self) -> list["TrainedLine"]:
        """Its lines, the base first."""
        return [TrainedLine(variant, self.grade) for variant in self.table.variants]


@dataclass(frozen=True)
class TrainedLine:
    """A variant at one grade: the runs of a line, but for their seeds."""

    variant: Variant
    grade: str

    def __str__(self) -> str:
        """Name for people and folders, such as ``A-size-2``."""
        return f"{self.variant.key}-{self.grade}"


@dataclass(frozen=True)
class AblationCell(RunCell):
    """One run of a line."""

    line: TrainedLine
    seed: int

    def __str__(self) -> str:
        """Name for people, such as ``A-size-2, seed 0``."""
        return f"{self.line}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Folder of the run in the folder of an ablation."""
        return out / "runs" / str(self.line) / f"seed-{self.seed}"

    def training(self, config: AblationConfig, out: Path) -> list[str]:
        """Words after ``clickscale`` that train the cell, or continue it."""
        variant = self.line.variant
        words = ["train", variant.model, "--data", config.data_of(variant), "--out", str(self.folder(out))]
        words += ["--seed", str(self.seed), "--resume", "--grade", self.line.grade]
        words += ["--length", str(config.length)]
        words += ["--labels", config.label] if config.label else []
        return [*words, *(word for text in config.assignments(variant) for word in ("--set", text))]


def claim_ablation(out: Path, config: AblationConfig) -> None:
    """Begin an ablation in ``out``, or continue the one there; more tables, grades or seeds are welcome.

    Raises:
        RunError: the folder holds something else, or an ablation with other options or data, or cannot be
            written.
    """
    claim_options(out, config, Path(config.data), what="ablation", free=_FREE, more=_other_grade(config))


def refuse_other_ablation(out: Path, config: AblationConfig) -> None:
    """Raise where `claim_ablation` would, and write nothing."""
    refuse_other_work(out, config, Path(config.data), what="ablation", free=_FREE, more=_other_grade(config))


def _other_grade(config: AblationConfig) -> Callable[[AblationConfig], list[str]]:
    """Tells whether a stored ablation has another grade for all tables than ``config``."""

    def other(stored: AblationConfig) -> list[str]:
        first, asked = stored.grades[0], config.grades[0]
        return [f"the grade of all tables is {first!r}, not {asked!r}"] if first != asked else []

    return other
