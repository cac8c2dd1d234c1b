"""Print the result of a verb on stdout, and everything else on stderr.

With ``--json`` the result is one JSON document; without, tables for people. Progress and notes go to stderr,
so that a result can be piped.
"""

import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_QUIET_SECONDS = 10.0  # without a terminal, a stage is reported this often at most


def emit(document: Any) -> None:
    """Print one JSON document on stdout; numbers that JSON cannot hold become null."""
    plain = jsonable(document)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        typer.echo(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair: only its escape is JSON in UTF-8
        typer.echo(json.dumps(plain, indent=2, allow_nan=False))


def jsonable(value: Any) -> Any:
    """The same value without NaN, infinities, tuples, paths and numpy scalars."""
    if isinstance(value, dict):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return jsonable(value.item()) if callable(getattr(value, "item", None)) else str(value)


def say(message: str) -> None:
    """Print a line for people on stderr."""
    typer.echo(message, err=True)


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out; torch reports it only in the text of a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    )


class _Echo(logging.Handler):
    """Repeats on stderr what the package logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record as a line."""
        say(record.getMessage())


def listen() -> None:
    """Repeat the package's log on stderr, unless a terminal shows the same as a progress line."""
    log = logging.getLogger("clickscale")
    if not sys.stderr.isatty() and not any(isinstance(handler, _Echo) for handler in log.handlers):
        log.addHandler(_Echo())
        log.setLevel(logging.INFO)


def show(table: Table) -> None:
    """Print a table on stdout; without a terminal it is as wide as its content."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=400, no_color=True)
    console.print(table)


def grid(
    title: str, headers: Sequence[str], rows: Iterable[Sequence[object]], footnotes: Iterable[str] = ()
) -> Table:
    """A table whose columns after the first are aligned right when they hold numbers.

    Args:
        footnotes: say below the table why a cell holds a dash.
    """
    texts = [[cell(value) for value in row] for row in rows]
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for index, header in enumerate(headers):
        numeric = all(_looks_numeric(row[index]) for row in texts)
        table.add_column(header, justify="right" if index and numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    if notes := "\n".join(f"- {note}" for note in footnotes):
        table.caption, table.caption_justify = Text(notes), "left"
    return table


def cell(value: object) -> str:
    """Text of one cell: counts with separators, other numbers with four digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:z.4f}" if math.isfinite(value) else "-"
    return str(value)


def _looks_numeric(text: str) -> bool:
    return text == "-" or text[:1].isdigit() or text[:1] in "+-±<"


class Stages(AbstractContextManager["Stages"]):
    """Progress of work in named stages, as a callable ``(stage, done, total)``.

    On a terminal a bar per stage; otherwise a line now and then, if a stage takes long.
    """

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> "Stages":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Report that ``done`` of ``total`` (None: not known yet) are done."""
        if self._bars is None:
            self._line(stage, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def _line(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last.setdefault(stage, now) > _QUIET_SECONDS:
            self._last[stage] = now
            say(f"{stage}: {done:,}" + (f" of {total:,}" if total else ""))
