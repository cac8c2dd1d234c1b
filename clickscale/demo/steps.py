"""The steps of the demo: prepare, train, distill, fit trees, evaluate, measure, score, scale, report.

A step whose result is in the folder is skipped, so a demo that was stopped continues where it was::

    OUT/ml-100k, OUT/prepared       the raw log and the prepared data set
    OUT/runs/                       din, student, distillation/student, distillation/teacher, trees
    OUT/ladder/                     a sweep: one model on growing shares of the training data
    OUT/request.json                a raw request, scored with the distilled student
    OUT/report.html                 the page, with the plots beside it as SVG
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clickscale.data.adapters import open_source
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.fetch import get
from clickscale.data.preparation.prepare import prepare
from clickscale.demo import demo_page
from clickscale.demo.demo_page import ALONE, TAUGHT, Latencies
from clickscale.demo.small_ladder import climb, fit_ladder, ladder_config, told
from clickscale.evaluation.significance import Interval
from clickscale.report import sections
from clickscale.report.comparison import gap_closed
from clickscale.report.results import Result, gap_document, to_dict, verdict, with_simple
from clickscale.run_page import CANDIDATES, measured_latencies
from clickscale.scaling.laws import Laws, to_document
from clickscale.training.distill.distill_config import DistillConfig, ModelChoice
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.run_state import RunResult
from clickscale.workflow import distill, evaluate, run_results, train, train_trees

LOG = "movielens-100k"

Note = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]


class DemoStopped(Exception):
    """A signal stopped the training; the next demo in the same folder continues it."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("stopped by a signal")
        self.exit_code = exit_code


@dataclass(frozen=True)
class _DemoOutcome:
    """Everything that the demo measured.

    Attributes:
        latencies: milliseconds of a request by run, see `clickscale.run_page.measured_latencies`.
        request: the scored request, see `clickscale.demo.demo_page.scored_request`.
        laws: of the small ladder.
        page: path of the report.
        gap_closed: by measure, the share of the gap to its teacher that the distilled student closes.
    """

    dataset: Dataset
    results: list[Result]
    latencies: Latencies
    gap_closed: Mapping[str, Interval]
    request: dict[str, Any]
    laws: Laws
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        results = [to_dict(result) | {"latency": self.latencies.get(result.name)} for result in self.results]
        closed = {name: gap_document(share) for name, share in self.gap_closed.items()}
        ladders = to_document(self.laws)["ladders"]
        return {
            "results": results,
            "gap_closed": closed,
            "request": self.request,
            "ladder": ladders[0] if ladders else None,
            "report": str(self.page),
        }

    def results_table(self) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
        """Title, headers and rows of the table of results."""
        rows = [
            sections.cells(
                result,
                self.latencies.get(result.name),
                self.gap_closed if result.name == TAUGHT else {},
            )
            for result in with_simple(self.results)
        ]
        test = len(self.dataset.part("test"))
        title = f"{LOG}, test part: {test:,} impressions after all of training; intervals over users (95%)"
        return title, sections.headers(CANDIDATES, gaps=True), rows

    def ranking_table(self) -> tuple[str, tuple[str, ...], list[tuple[Any, ...]]]:
        """Title, headers and rows of the scored request."""
        attributes = self.request["attributes"]
        rows = [
            (
                str(line["item"]),
                *(str(line[name]) for name in attributes),
                line["probability"],
                line["happened"],
            )
            for line in self.request["ranking"]
        ]
        title = f"User {self.request['user']}: the {TAUGHT}'s ranking of one request"
        return title, ("item", *attributes, "probability", "what happened"), rows

    def summary(self) -> str:
        """The best models, and the meaning of the columns."""
        return f"{verdict(self.results)} {sections.meaning(CANDIDATES)} {sections.GAP_MEANING}"

    def ladder(self) -> str:
        """The prediction of the largest rung of the ladder, and what came out."""
        return told(self.laws)


def _choice(model: str, grade: str, length: int) -> ModelChoice:
    return ModelChoice(model=model, grade=grade, length=length)


@dataclass(frozen=True)
class Demo:
    """One demo: its folder and its models.

    The student alone and the distilled student get the same options, so the recipe decides the same for both:
    equal epochs, batches and learning rates.

    Attributes:
        out: folder to write.
        note: called with a line about each step that starts or is left out.
        teacher: teaches ``student``.
        batch_size, epochs: of every training; 0 leaves them to `clickscale.training.recipe`.
        threads: per operation; 0 lets clickscale choose.
        ladder_seeds: runs of each share of the data in the ladder.
    """

    out: Path
    note: Note
    seed: int = 0
    din: ModelChoice = field(default_factory=lambda: _choice("din", "size-2", 100))
    student: ModelChoice = field(default_factory=lambda: _choice("lightsuan", "size-2", 100))
    teacher: ModelChoice = field(default_factory=lambda: _choice("suan", "size-3", 100))
    batch_size: int = 0
    epochs: int = 0
    threads: int = 0
    ladder_seeds: int = 2

    @property
    def data(self) -> Path:
        """Folder of the prepared data set."""
        return self.out / "prepared"

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.out / "runs"

    def prepare(self, source: Path | None, progress: Progress) -> None:
        """Get the log and prepare it.

        Args:
            source: a local folder or archive of the log instead of the network.
            progress: called as ``progress(stage, done, total)``.
        """
        if (self.data / "manifest.json").is_file():
            self.note(f"{self.data} is there")
            return
        raw = self.out / "ml-100k"
        if not raw.is_dir():
            self.note(f"getting {LOG}")
            get(LOG, raw, source)
        prepare(open_source(LOG, raw), self.data, progress=progress)

    def run(self) -> _DemoOutcome:
        """Train and measure on the prepared log, and write the report.

        Raises:
            DemoStopped: a signal stopped the training.
        """
        runs = {"din": self.train("din", self.din), ALONE: self.train("student", self.student)}
        runs |= self.distill()
        self.evaluate(runs)
        runs |= self.trees()
        results = [result for name, run in runs.items() for result in run_results(run, "test", name)]
        dataset = open_dataset(self.data)
        self.note(f"measuring the latency of {CANDIDATES} candidates")
        entrants = demo_page.entrants(runs)
        latencies = measured_latencies(entrants, CANDIDATES)
        closed = gap_closed([entrants[TAUGHT]], list(entrants.values()), dataset.labels[0])
        self.note(f"scoring a request with the saved artifact of the {TAUGHT}")
        request = demo_page.scored_request(dataset, runs[TAUGHT] / "artifact", self.out)
        laws = self.ladder()
        page = demo_page.write_report(self.out, dataset, runs, latencies, request, laws, self.out / "ladder")
        return _DemoOutcome(dataset, results, latencies, closed, request, laws, page)

    def train(self, name: str, choice: ModelChoice) -> Path:
        """Train one model; the folder of its run."""
        run = self.runs / name
        if not (run / "artifact").is_dir():
            self.note(f"training {choice}")
            config = TrainConfig(
                data=str(self.data),
                model=choice.model,
                grade=choice.grade,
                length=choice.length,
                batch_size=self.batch_size,
                epochs=Epochs(count=self.epochs),
                seed=self.seed,
                threads=self.threads,
            )
            _finished(train(config, run, resume=True))
        return run

    def distill(self) -> dict[str, Path]:
        """Train the teacher and the student that it teaches; their runs by name."""
        run = self.runs / "distillation"
        if not (run / "teacher" / "artifact").is_dir():
            self.note(f"training {self.teacher}, the teacher, and then {self.student}")
            config = DistillConfig(
                data=str(self.data),
                student=self.student,
                teacher=self.teacher,
                batch_size=self.batch_size,
                epochs=Epochs(count=self.epochs),
                seed=self.seed,
                threads=self.threads,
            )
            _finished(distill(config, run, resume=True))
        return {TAUGHT: run / "student", "teacher": run / "teacher"}

    def trees(self) -> dict[str, Path]:
        """Fit boosted trees; their run by name, or nothing (with a note) if LightGBM is not installed."""
        run = self.runs / "trees"
        if importlib.util.find_spec("lightgbm") is None:
            self.note("LightGBM is not installed, so the trees are left out: pip install 'clickscale[trees]'")
            return {}
        if not _evaluated(run):
            self.note("training boosted trees")
            train_trees(self.data, run, seed=self.seed, threads=self.threads)
        return {"trees": run}

    def ladder(self) -> Laws:
        """Train one model on growing shares of the data, and fit the law of the shares."""
        config = ladder_config(self.data, seeds=self.ladder_seeds, batch_size=self.batch_size)
        if code := climb(config, self.out / "ladder", self.note):
            raise DemoStopped(code)
        return fit_ladder(config, self.out / "ladder")

    def evaluate(self, runs: dict[str, Path]) -> None:
        """Measure runs on the test part."""
        for run in runs.values():
            if not _evaluated(run):
                evaluate(run)


def _evaluated(run: Path) -> bool:
    """True if a run has a report of the test part."""
    return (run / "evaluation-test.json").is_file()


def _finished(result: RunResult) -> None:
    """End the demo if a signal stopped the training."""
    if not result.finished:
        raise DemoStopped(result.exit_code)
