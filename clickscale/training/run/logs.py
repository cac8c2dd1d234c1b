"""Reports of a run in progress: a line of JSON per interval, TensorBoard events, a progress line.

A line of ``metrics.jsonl``::

    {"step": 40, "epoch": 0, "samples": 40960, "loss": 0.61, "loss.click": 0.61, "learning_rate": 0.003,
     "table_learning_rate": 0.003, "grad_norm": 0.8, "skipped": 0, "samples_per_second": 9600.0,
     "seconds": {"load": 0.1, "forward": 1.2, "backward": 1.9, "step": 0.3, "rest": 0.0}}

``samples`` and ``skipped`` count from the start of the run; losses are means over the steps of the interval
that were not skipped, absent if all were; ``seconds`` is the wall time of the interval (a GPU works on while
the clock runs, so there only the sum means something). A validation adds
``{"step": 40, "valid": {"loss": 0.6}}``.
"""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from clickscale.errors import DamagedError
from clickscale.files import checksum, replace_text
from clickscale.sealed import maybe_document
from clickscale.training.run.folder import ADVICE, DONE

METRICS = "metrics.jsonl"
LOG_HASH = "log_sha256"  # key of the log's hash among the facts of a finished run
log = logging.getLogger("clickscale")


class Stopwatch:
    """Divides wall time among the stages of a step.

    Attributes:
        seconds: of each stage since the last line.
        total: of each stage since the run began.
        samples: impressions since the last line.
    """

    STAGES = ("load", "forward", "backward", "step", "rest")

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(self.STAGES, 0.0)
        self.total = dict.fromkeys(self.STAGES, 0.0)
        self.samples = 0
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Give the time since the last call to ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self.total[stage] += now - self._last
        self._last = now

    def take(self) -> dict[str, Any]:
        """Seconds of each stage and samples per second since the last call."""
        rate = self.samples / max(sum(self.seconds.values()), 1e-9)
        taken = {
            "samples_per_second": round(rate, 1),
            "seconds": {k: round(v, 6) for k, v in self.seconds.items()},
        }
        self.seconds, self.samples = dict.fromkeys(self.STAGES, 0.0), 0
        return taken


class Meter:
    """Means of the losses over the steps since the last line; adds on the device and waits for nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # each () float64
        self.steps = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count one step."""
        for name, loss in losses.items():
            loss = loss.detach().double()
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.steps += 1

    def take(self) -> dict[str, float]:
        """Mean of each loss; starts over. Empty if there was no step."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means


class _RunLog:
    """Writes ``metrics.jsonl`` and, if TensorBoard is installed, its events.

    Lines of steps after ``step``, which a killed process left behind its last checkpoint, are removed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / METRICS
        kept = [json.dumps(line) for line in _parsed(self._path) if line["step"] <= step]
        replace_text(self._path, "".join(f"{line}\n" for line in kept))
        self._stream = self._path.open("a", encoding="utf-8")
        self._board = _board(folder, step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line; numbers that are not finite become null."""
        line = {"step": step} | {name: _finite(value) for name, value in values.items()}
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()
        for name, value in _numbers(line):
            if self._board is not None and name != "step":
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything."""
        self._stream.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of the metrics of a run, oldest first; a line that was cut off is left out.

    Raises:
        DamagedError: a line is not what a run writes, or a finished run has another log than it had then.
    """
    path = folder / METRICS
    done = maybe_document(folder / DONE, ADVICE)
    if done is not None and not (path.is_file() and checksum(path) == done[LOG_HASH]):
        raise DamagedError(f"{path} is not the log that the finished run left; {ADVICE}.")
    return _parsed(path)


class _ProgressLine:
    """One line with steps, loss, samples/s and time left; hidden when the output is not a terminal.

    Args:
        shown: None shows it if the standard error is a terminal.
    """

    def __init__(self, steps: int, step: int, shown: bool | None) -> None:
        console = Console(stderr=True)
        self._line = Progress(
            TextColumn("{task.fields[text]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
            disable=not (console.is_terminal if shown is None else shown),
        )
        self._task = self._line.add_task("", total=steps, completed=step, text="training", rate="")
        self._line.start()

    def say(self, text: str) -> None:
        """Show a sentence above the line, and log it."""
        log.info(text)
        if not self._line.disable:
            self._line.console.print(text)

    def move(self, step: int) -> None:
        """``step`` steps are done."""
        self._line.update(self._task, completed=step)

    def tell(self, values: Mapping[str, Any]) -> None:
        """Show the newest loss and samples/s."""
        rate, loss = values["samples_per_second"], values.get("loss")
        text = "every step skipped" if loss is None else f"loss {loss:.4f}"
        self._line.update(self._task, text=text, rate=f"{rate:,.0f} samples/s")

    def close(self) -> None:
        """Leave the line as it is and give the terminal back."""
        self._line.stop()


class RunReport(AbstractContextManager["RunReport"]):
    """Everything that a run reports, in its log and on its progress line.

    Args:
        folder: of the run.
        steps, step: all steps of the run, and those that are done.
        progress: show the line; None does so on a terminal.
        whose: begins every note, if the command trains more than this model.
    """

    def __init__(self, folder: Path, steps: int, step: int, progress: bool | None, whose: str = "") -> None:
        self._whose = f"{whose}: " if whose else ""
        self._log, self._line = _RunLog(folder, step), _ProgressLine(steps, step, progress)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        self._line.close()

    def say(self, note: str) -> None:
        """Show a note, and log it."""
        self._line.say(self._whose + note)

    def move(self, step: int) -> None:
        """``step`` steps are done."""
        self._line.move(step)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the values of an interval, and show the loss."""
        self._log.write(step, values)
        self._line.tell(values)

    def log_validation(self, step: int, losses: Mapping[str, float], kept: float | None = None) -> None:
        """Log the losses over the validation part.

        Args:
            kept: loss of the weights that training would end with, in a second training.
        """
        self._log.write(step, {"valid": losses} | ({} if kept is None else {"kept": kept}))


def _lines(path: Path) -> list[str]:
    """Whole lines of a JSON-lines file; none if it is absent."""
    if not path.is_file():
        return []
    return [line for line in path.read_text("utf-8", "replace").split("\n")[:-1] if line]


def _parsed(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log, each an object with its step."""
    parsed = []
    for number, text in enumerate(_lines(path), 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise DamagedError(
                f"{path} is damaged: its line {number} is {text[:60]!r}; restore the file or remove the line."
            )
        parsed.append(line)
    return parsed


def _board(folder: Path, step: int) -> Any:
    """TensorBoard writer, or None without the extra ``tensorboard``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a line by its path."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
