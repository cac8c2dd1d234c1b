"""The verb ``score``: raw requests in, scores out."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from clickscale.cli.console import emit, say
from clickscale.cli.options import AsJson
from clickscale.cli.outputs import is_table, score_table
from clickscale.config import LONGEST
from clickscale.config_text import build
from clickscale.errors import ConfigError, InputError
from clickscale.files import replacing

if TYPE_CHECKING:
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
    precision: Annotated[str, typer.Option("--precision", help="Of kept states: fp32, fp16, bf16.")] = "fp32",
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
    as_json: AsJson = False,
) -> None:
    """Score raw requests with an artifact.

    Each request gives one JSON line as soon as it is scored, its candidates in the order of the request.
    With --json, all responses are one JSON document instead. With --cache, states of users are kept for their
    next requests; a summary of what that saved follows at the end.

    A table gives a table: neighboring rows of one user and time, or of one value in a column "request", are
    one request. Its list column "behaviors" holds the history, or --data looks it up.

    Requests must be in the order of time for --counters. A statistic that a request still lacks is named in
    its answer: its scores are not those that evaluation measured.
    """
    if out is not None and out.exists():
        raise InputError(f"{out} already exists; choose another file or remove it.")
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: its folder does not exist.")
    scorer = _scorer(artifact, cache, slack, precision)
    held = _counters(counters, scorer)
    if is_table(requests):
        score_table(scorer, Path(requests), out, data, held, as_json)
        return
    if data is not None:
        raise InputError(f"--data is for tables, and {requests} holds requests, which bring their behaviors.")
    responses = _responses(scorer, requests, held)
    if out is not None:
        with replacing(out) as partial, partial.open("w", encoding="utf-8") as stream:
            count = sum(1 for response in responses if stream.write(_line(response)))
        say(f"{count:,} responses in {out}")
        if as_json:
            emit({"artifact": str(artifact), "out": str(out), "count": count})
    elif as_json:
        emit({"artifact": str(artifact), "responses": list(responses)})
    else:
        for response in responses:
            typer.echo(_line(response), nl=False)


def _scorer(artifact: Path, cache: str | None, slack: int, precision: str) -> "Scorer":
    """Make the scorer; its cache keeps every state, since no other process competes for its memory."""
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache import StateCache
    from clickscale.inference.states.cache_config import CacheConfig

    if cache is None:
        if precision != "fp32":
            raise ConfigError(
                f"--precision {precision} is of kept states, and none are kept; give --cache too."
            )
        return Scorer(artifact, slack=slack)
    options = {"budget": _size_in_bytes(cache), "precision": precision, "admit_after": 1}
    return Scorer(artifact, cache=StateCache(build(CacheConfig, options, "--precision")), slack=slack)


def _counters(path: Path | None, scorer: "Scorer") -> "StatisticCounters | None":
    from clickscale.inference.statistic_counters import StatisticCounters

    return None if path is None else StatisticCounters.load(path, scorer.artifact)


def _size_in_bytes(text: str) -> int:
    """Bytes of a size such as ``64MB``, ``1.5 GiB`` or ``4096``.

    Raises:
        ConfigError: not a size.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)", text.strip())
    if not match or match[2].upper() not in _UNITS:
        raise ConfigError(f"{text!r} is not a size; write it as 64MB, 1.5GB or 512MiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _responses(
    scorer: "Scorer", requests: str, counters: "StatisticCounters | None" = None
) -> Iterator[dict[str, Any]]:
    """Score request after request; an error names the line of the request."""
    name = "stdin" if requests == "-" else requests
    for line, request in _read_requests(requests):
        try:
            yield scorer.score(counters.complete(request) if counters else request).to_dict()
        except InputError as error:
            raise InputError(f"{name} line {line}: {error}") from error
    if scorer.cache is not None:
        say(summary(scorer.cache.stats()))


def summary(stats: "CacheStats") -> str:
    """The counters of a cache in one line."""
    warning = "" if stats.enabled else "; OFF: an audit found a wrong score"
    return (
        f"cache: {stats.hits:,} hits, {stats.appends:,} appended to, "
        f"{stats.misses + stats.rebuilds:,} computed; {stats.behaviors_reused:,} behaviors reused; "
        f"{stats.entries:,} states in {stats.bytes / 1e6:,.1f} MB{warning}"
    )


def _line(response: dict[str, Any]) -> str:
    return json.dumps(response, ensure_ascii=False) + "\n"


def _read_requests(path: str) -> Iterator[tuple[int, Any]]:
    """(line number, request) of a JSON-lines file; empty lines are left out.

    Raises:
        InputError: the file or a line cannot be read; the message names the line.
    """
    if path == "-":
        yield from _lines(sys.stdin, "stdin")
        return
    try:
        stream = open(path, encoding="utf-8")  # noqa: SIM115 (closed below; only opening may fail with a name)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    with stream:
        yield from _lines(stream, path)


def _lines(stream: IO[str], name: str) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{name} line {number} is not JSON: {error.msg} at column {error.colno}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} line {number + 1} is not UTF-8 text.") from error
