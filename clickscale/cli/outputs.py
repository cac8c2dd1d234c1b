"""Verbs whose output others take on: ``predict``, ``report``, ``statistics export``; scores of tables."""

import io
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickscale.cli.console import emit, say
from clickscale.cli.options import AsJson, MaybeData, Overwrite
from clickscale.cli.runs import Part
from clickscale.errors import InputError

if TYPE_CHECKING:
    from clickscale.inference.scored_tables import ScoredTable
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.statistic_counters import StatisticCounters

_TABLES = (".csv", ".tsv", ".parquet", ".pq", ".csv.gz", ".tsv.gz")


def predict_part(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_ARTIFACT", help="A run, trees included, or an artifact.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Table to write: .parquet or .csv.")],
    data: MaybeData = None,
    part: Part = "test",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the predictions of a part as a table.

    It has the ids, times and labels of the log and a score for each label, in the order of the log. Column
    row is the number of the row in the log, from 0. Scores are those that clickscale evaluate measures.
    """
    from clickscale.inference.prediction_tables import predict_to_table

    rows = predict_to_table(source, out, data=data, part=part, overwrite=overwrite)
    if as_json:
        emit({"source": str(source), "out": str(out), "part": part, "rows": rows})
        return
    say(f"{rows:,} rows in {out}")


def report_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Sweeps, distillations, and runs that were evaluated."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR_OR_FILE", help="A folder, or a file that ends in .html.")
    ],
    part: Part = "test",
    label: Annotated[str, typer.Option("--label", help="Label of the page; the first one by default.")] = "",
    data: MaybeData = None,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates", min=0, help="Of the request whose latency is measured; 0 measures none."
        ),
    ] = 500,
    as_json: AsJson = False,
) -> None:
    """Write a page about sweeps and runs: laws, predictions, results, costs, data, commands.

    One HTML file that opens from the disk and can be sent or printed. Into a folder, the plots come as SVG
    and PNG beside it.
    """
    from clickscale.scaling.scaling_page import write_report

    words = ["clickscale", "report", *map(str, runs), "--out", str(out)]
    words += ["--part", part] if part != "test" else []
    words += ["--label", label] if label else []
    words += ["--data", str(data)] if data else []
    words += ["--candidates", str(candidates)] if candidates != 500 else []
    page = write_report(
        runs, out, part=part, label=label, data=data, candidates=candidates, command=shlex.join(words)
    )
    if as_json:
        emit({"runs": [str(run) for run in runs], "report": str(page)})
        return
    say(f"report: {page}")


def export_statistics(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A prepared data set.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write.")],
    before: Annotated[
        str,
        typer.Option(
            "--before",
            metavar="MOMENT",
            help="Count up to the start of valid or test, or to a time in seconds; all by default.",
        ),
    ] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the counts behind the declared statistics, to continue them at serving.

    clickscale score --counters fills them into requests; StatisticCounters continues them event by event.
    """
    from clickscale.data.dataset import open_dataset
    from clickscale.inference.counter_export import export_counters

    if out.exists() and not overwrite:
        raise InputError(f"{out} already exists; choose another file or give --overwrite.")
    head = export_counters(open_dataset(data), out, before)
    names = [statistic.name for statistic in head.statistics]
    if as_json:
        emit({"data": str(data), "out": str(out), "moment": head.moment, "statistics": names})
        return
    say(f"{len(names)} statistics, counted before {head.moment}, in {out}")


def is_table(path: str) -> bool:
    """True for the name of a file that holds a table instead of JSON lines."""
    return path.lower().endswith(_TABLES)


def score_table(
    scorer: "Scorer",
    path: Path,
    out: Path | None,
    data: Path | None,
    counters: "StatisticCounters | None",
    as_json: bool,
) -> None:
    """Score a table of candidates into another, or to stdout as CSV."""
    from clickscale.data.dataset import open_dataset
    from clickscale.inference.prediction_tables import check_table
    from clickscale.inference.request_tables import RequestTable
    from clickscale.inference.scored_tables import ScoredTable

    if out is not None:
        check_table(out)
    artifact = scorer.artifact
    dataset = None if data is None else open_dataset(data)
    table = RequestTable(path, artifact.encoder, dataset, artifact.config.length)
    if table.ignored:
        say(f"columns that the artifact does not use: {', '.join(table.ignored)}")
    scored = ScoredTable(scorer, table, counters)
    if out is not None:
        rows = scored.write(out)
        say(f"{rows:,} rows of {scored.requests:,} requests in {out}")
        if as_json:
            emit({"artifact": str(artifact.path), "out": str(out), "rows": rows, "missing": scored.lacking})
    elif as_json:
        lines = [line for piece in scored.pieces() for line in piece.to_pylist()]
        emit({"artifact": str(artifact.path), "rows": lines, "missing": scored.lacking})
    else:
        _print_csv(scored)
    if scored.lacking:
        names, most = ", ".join(scored.lacking), max(scored.lacking.values())
        say(f"note: {most:,} of {scored.requests:,} requests lack {names}; --counters fills them in")


def _print_csv(scored: "ScoredTable") -> None:
    """Print scores on stdout, piece by piece."""
    from pyarrow import csv

    header = True
    for piece in scored.pieces():
        text = io.BytesIO()
        csv.write_csv(piece, text, csv.WriteOptions(include_header=header, quoting_style="needed"))
        typer.echo(text.getvalue().decode(), nl=False)
        header = False
