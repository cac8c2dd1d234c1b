"""The verb ``score``: raw requests in, scores out."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickscale.cli.console import emit, is_out_of_memory, say
from clickscale.cli.options import AsJson
from clickscale.cli.outputs import is_table, score_table
from clickscale.config import LONGEST
from clickscale.config_text import build
from clickscale.errors import ClickscaleError, ConfigError, InputError
from clickscale.files import replacing

if TYPE_CHECKING:
    from clickscale.inference.request_lines import RequestLimits
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache_config import CacheStats
    from clickscale.inference.statistic_counters import StatisticCounters

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def score_requests(
    artifact: Annotated[Path, typer.Argument(help="Folder of an artifact, such as runs/suan/artifact.")],
    requests: Annotated[
        str,
        typer.Argument(
            help="One JSON request per line (- reads stdin), or a CSV or Parquet table of candidates."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write here, not to stdout.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option("--cache", metavar="SIZE", help="Keep states of users, up to e.g. 64MB.")
    ] = None,
    slack: Annotated[
        int,
        typer.Option(
            "--slack", min=0, max=LONGEST, help="Kept states may grow beyond the model's length by this many."
        ),
    ] = 0,
    precision: Annotated[
        str, typer.Option("--precision", help="Of kept states: fp32, fp16, bf16, int8.")
    ] = "fp32",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Look up profiles and behaviors that a table has no columns for in this prepared data set.",
        ),
    ] = None,
    counters: Annotated[
        Path | None,
        typer.Option(
            "--counters",
            metavar="FILE",
            help="Fill in missing statistics from what clickscale statistics export wrote.",
        ),
    ] = None,
    max_candidates: Annotated[
        int, typer.Option("--max-candidates", min=1, help="Refuse requests with more.")
    ] = 10_000,
    max_behaviors: Annotated[
        int, typer.Option("--max-behaviors", min=1, help="Refuse requests with more.")
    ] = 100_000,
    max_line: Annotated[
        str, typer.Option("--max-line", metavar="SIZE", help="Refuse longer lines.")
    ] = "16MiB",
    max_depth: Annotated[
        int, typer.Option("--max-depth", min=1, help="Refuse lists and objects nested deeper.")
    ] = 16,
    as_json: AsJson = False,
) -> None:
    """Score raw requests with an artifact.

    Each request gives one JSON line as soon as it is scored, its candidates in the order of the request.
    A line that cannot be scored gives {"line": its number, "error": why}, and the others are still answered;
    then the exit code is 2. With --json, all responses are one JSON document instead. With --cache, states of
    users are kept for their next requests; a summary of what that saved follows at the end.

    A table gives a table: neighboring rows of one user and time, or of one value in a column "request", are
    one request. Its list column "behaviors" holds the history, or --data looks it up.

    Requests must be in the order of time for --counters. A statistic that a request still lacks is named in
    its answer: its scores are not those that evaluation measured.
    """
    from clickscale.inference.request_lines import RequestLimits

    limits = RequestLimits(
        candidates=max_candidates,
        behaviors=max_behaviors,
        line_bytes=size_in_bytes(max_line),
        depth=max_depth,
    )
    if out is not None and out.exists():
        raise InputError(f"{out} already exists; choose another file or remove it.")
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: its folder does not exist.")
    scorer = _scorer(artifact, cache, slack, precision, limits)
    held = _counters(counters, scorer)
    if is_table(requests):
        score_table(scorer, Path(requests), out, data, held, as_json)
        return
    if data is not None:
        raise InputError(f"--data is for tables, and {requests} holds requests, which bring their behaviors.")
    answers = _Answers(scorer, requests, limits, held)
    if out is not None:
        with replacing(out) as partial, partial.open("wb") as stream:
            for answer in answers:
                stream.write(answer)
        say(f"{answers.count:,} responses in {out}")
        if as_json:
            emit({"artifact": str(artifact), "out": str(out), "count": answers.count})
    elif as_json:
        emit({"artifact": str(artifact), "responses": [json.loads(answer) for answer in answers]})
    else:
        for answer in answers:
            typer.echo(answer, nl=False)
    answers.raise_first()


def _scorer(
    artifact: Path, cache: str | None, slack: int, precision: str, limits: "RequestLimits"
) -> "Scorer":
    """Make the scorer; its cache keeps every state, since no other process competes for its memory."""
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache import StateCache
    from clickscale.inference.states.cache_config import CacheConfig

    if cache is None:
        if precision != "fp32":
            raise ConfigError(
                f"--precision {precision} is of kept states, and none are kept; give --cache too."
            )
        return Scorer(artifact, slack=slack, limits=limits)
    options = {"budget": size_in_bytes(cache), "precision": precision, "admit_after": 1}
    kept = StateCache(build(CacheConfig, options, "--precision"))
    return Scorer(artifact, cache=kept, slack=slack, limits=limits)


def _counters(path: Path | None, scorer: "Scorer") -> "StatisticCounters | None":
    from clickscale.inference.statistic_counters import StatisticCounters

    return None if path is None else StatisticCounters.load(path, scorer.artifact)


def size_in_bytes(text: str) -> int:
    """Bytes of a size such as ``64MB``, ``1.5 GiB`` or ``4096``.

    Raises:
        ConfigError: not a size.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _UNITS:
        raise ConfigError(f"{text!r} is not a size; write it as 64MB, 1.5GB or 512MiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


class _Answers:
    """Answers to the requests of a file, a line of bytes for each, whatever its line holds.

    Attributes:
        count, refused: lines that were answered so far, and those of them that were refused.
    """

    def __init__(
        self,
        scorer: "Scorer",
        requests: str,
        limits: "RequestLimits",
        counters: "StatisticCounters | None" = None,
    ) -> None:
        self.count = self.refused = 0
        self._scorer, self._requests, self._limits = scorer, requests, limits
        self._counters = counters
        self._first: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        for number, line in _read_lines(self._requests, self._limits):
            self.count += 1
            yield self._answer(number, line)
        if self._scorer.cache is not None:
            say(_summary(self._scorer.cache.stats()))

    def _answer(self, number: int, line: bytes | InputError) -> bytes:
        from clickscale.inference.request_lines import parse_line

        try:
            if isinstance(line, InputError):
                raise line
            request = parse_line(line, self._limits)
            filled = request if self._counters is None else self._counters.complete(request)
            return _line(self._scorer.score(filled).to_dict())
        # Any exception: the other lines are not to blame for this one, not even where the defect is ours.
        except Exception as error:
            self.refused += 1
            told = _of_line(error, self._name, number)
            if self._first is None or (told is error and isinstance(self._first, InputError)):
                self._first = told  # a defect of ours is told before any wrong request
            return _line({"line": number, "error": _reason(error)})

    @property
    def _name(self) -> str:
        return "stdin" if self._requests == "-" else self._requests

    def raise_first(self) -> None:
        """Raise the error of the first line that was refused, if there is one."""
        if self._first is None:
            return
        if isinstance(self._first, InputError):
            raise InputError(
                f"{self._first} ({self.refused:,} of {self.count:,} lines refused, the others answered)"
            )
        raise self._first


def _of_line(error: Exception, name: str, number: int) -> Exception:
    """The error of a line with the line's name; that of a defect of ours as it is."""
    expected = isinstance(error, ClickscaleError) or is_out_of_memory(error)
    return InputError(f"{name} line {number}: {_reason(error)}") if expected else error


def _reason(error: Exception) -> str:
    """Why a line was refused."""
    if isinstance(error, ClickscaleError):
        return str(error)
    if is_out_of_memory(error):
        return "the request needs more memory than there is; send fewer candidates or behaviors."
    return f"a defect of clickscale: {type(error).__name__}: {error}"


def _summary(stats: "CacheStats") -> str:
    """The counters of a cache in one line."""
    warning = "" if stats.enabled else "; OFF: an audit found a wrong score"
    return (
        f"cache: {stats.hits:,} hits, {stats.appends:,} appended to, "
        f"{stats.misses + stats.rebuilds:,} computed; {stats.behaviors_reused:,} behaviors reused; "
        f"{stats.entries:,} states in {stats.bytes / 1e6:,.1f} MB{warning}"
    )


def _line(answer: dict[str, Any]) -> bytes:
    """One line of JSON in UTF-8.

    Raises:
        InputError: the answer holds a number that JSON cannot hold.
    """
    try:
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError("an id or a score is not a finite number, which JSON cannot hold.") from error
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair: only its escape is JSON in UTF-8
        return json.dumps(answer).encode() + b"\n"


def _read_lines(path: str, limits: "RequestLimits") -> Iterator[tuple[int, bytes | InputError]]:
    """(line number, bytes) of a JSON-lines file or of stdin; see `numbered_lines`.

    Raises:
        InputError: the file cannot be opened.
    """
    from clickscale.inference.request_lines import numbered_lines

    if path == "-":
        yield from numbered_lines(sys.stdin.buffer, limits)
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 (closed below; only opening may fail with a name)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    with stream:
        yield from numbered_lines(stream, limits)
