"""The verb ``score``: raw requests in, scores out."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from clickscale.cli.console import emit, say
from clickscale.cli.options import AsJson
from clickscale.errors import InputError


def score_requests(
    artifact: Annotated[Path, typer.Argument(help="Folder of an artifact, such as runs/suan/artifact.")],
    requests: Annotated[str, typer.Argument(help="A file of one JSON request per line; - reads stdin.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write here, not to stdout.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score raw requests with an artifact.

    One JSON line per request comes out as soon as it is scored, candidates in the order they came.
    With --json, one JSON document with all responses instead of lines.
    """
    if out is not None and out.exists():
        raise InputError(f"{out} already exists; choose another file or remove it.")
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: its folder does not exist.")
    responses = _responses(artifact, requests)
    if out is not None:
        partial = out.with_name(f".partial-{out.name}")
        with partial.open("w", encoding="utf-8") as stream:
            count = sum(1 for response in responses if stream.write(_line(response)))
        partial.replace(out)
        say(f"{count:,} responses in {out}")
        if as_json:
            emit({"artifact": str(artifact), "out": str(out), "count": count})
    elif as_json:
        emit({"artifact": str(artifact), "responses": list(responses)})
    else:
        for response in responses:
            typer.echo(_line(response), nl=False)


def _responses(artifact: Path, requests: str) -> Iterator[dict[str, Any]]:
    """Score request after request; an error names the line of the request."""
    from clickscale.inference.scorer import Scorer

    scorer, name = Scorer(artifact), "stdin" if requests == "-" else requests
    for number, request in read_requests(requests):
        try:
            yield scorer.score(request).to_dict()
        except InputError as error:
            raise InputError(f"{name} line {number}: {error}") from error


def _line(response: dict[str, Any]) -> str:
    return json.dumps(response, ensure_ascii=False) + "\n"


def read_requests(path: str) -> Iterator[tuple[int, Any]]:
    """(line number, request) of a JSON-lines file; empty lines are left out.

    Raises:
        InputError: the file or a line cannot be read; the message names the line.
    """
    if path == "-":
        yield from _lines(sys.stdin, "stdin")
        return
    try:
        stream = open(path, encoding="utf-8")  # noqa: SIM115 (closed below; opening alone may fail with a name)
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
