"""Verbs about data: ``data list|get``, ``schema guess``, ``prepare``, ``inspect``, ``leak-check``."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Overwrite, Sets
from clickscale.errors import ConfigError
from clickscale.files import replace_text

if TYPE_CHECKING:
    from clickscale.data.layout import Manifest
    from clickscale.data.source import Source, Split

PLOTS = (".png", ".svg", ".pdf")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A prepared data set.")]


def _source(text: str, sets: list[str]) -> "Source":
    """The log that ``schema.toml`` or ``ADAPTER:FOLDER`` names."""
    from clickscale.config_text import load_toml, override
    from clickscale.data.adapters import open_source
    from clickscale.data.described.log import LogConfig, log_source

    if text.endswith(".toml"):
        return log_source(override(load_toml(Path(text), LogConfig), sets), Path(text).parent)
    adapter, found, folder = text.partition(":")
    if not found:
        raise ConfigError(
            f"Source {text!r} is neither a .toml file nor ADAPTER:FOLDER, such as movielens-1m:ml-1m."
        )
    return open_source(adapter, Path(folder), _pairs(sets))


def _pairs(sets: list[str]) -> dict[str, str]:
    """``key=value`` texts as a mapping."""
    for assignment in sets:
        if "=" not in assignment:
            raise ConfigError(f"--set {assignment!r} has no '='; write it as key=value.")
    return {
        key.strip(): value.strip() for key, _, value in (assignment.partition("=") for assignment in sets)
    }


def _other_split(split: "Split", kind: str | None, valid: float | None, test: float | None) -> "Split":
    """The split of a source with what the command line changes; one day or moment each if it counts them."""
    from clickscale.config_text import override

    if kind in ("day", "user_last") and split.kind != kind:
        valid, test = 1 if valid is None else valid, 1 if test is None else test
    given = {"kind": kind, "valid": valid, "test": test} | ({"column": '""'} if kind else {})
    return override(split, [f"{key}={value}" for key, value in given.items() if value is not None])


def prepare_log(
    source: Annotated[
        str, typer.Argument(help="A schema.toml, or ADAPTER:FOLDER such as movielens-1m:ml-1m.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    sets: Sets = None,
    split: Annotated[
        Literal["time", "user_time", "user_last", "day"] | None,
        typer.Option("--split", help="Instead of the source's split."),
    ] = None,
    valid: Annotated[float | None, typer.Option("--valid", help="Share (or days) for validation.")] = None,
    test: Annotated[float | None, typer.Option("--test", help="Share (or days) for the test.")] = None,
    chunk_rows: Annotated[int, typer.Option("--chunk-rows", min=1, help="Rows read at a time.")] = 1 << 17,
    memory_rows: Annotated[int, typer.Option("--memory-rows", min=1, help="Rows sorted in memory.")] = 1
    << 22,
    max_quarantined: Annotated[
        float,
        typer.Option("--max-quarantined", min=0, max=1, help="Largest share of impressions that may be bad."),
    ] = 0.5,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Turn a raw log into a prepared data set.

    It holds each user's timeline once, the item table, the impressions, the encoder and the split. Rows that
    cannot be right go to quarantine with a reason; none is lost.
    """
    from clickscale.data.preparation.prepare import prepare

    log = _source(source, sets or [])
    log = dataclasses.replace(log, split=_other_split(log.split, split, valid, test))
    with Stages() as stages:
        manifest = prepare(
            log,
            out,
            overwrite=overwrite,
            max_quarantined=max_quarantined,
            chunk_rows=chunk_rows,
            memory_rows=memory_rows,
            progress=stages,
        )
    show_prepared(manifest, out, as_json)


def show_prepared(manifest: "Manifest", out: Path, as_json: bool) -> None:
    """Say what was prepared."""
    if as_json:
        emit(_manifest_document(manifest, out))
        return
    _show_manifest(manifest, out)
    _show_summary(out)


def _manifest_document(manifest: "Manifest", out: Path) -> dict[str, object]:
    """Summary of preparing for programs."""
    import msgspec

    from clickscale.data.preparation.summary import read_summary

    report = {name: msgspec.to_builtins(table) for name, table in manifest.report.items()}
    return {
        "dataset": str(out),
        "counts": manifest.counts,
        "report": report,
        "notes": list(manifest.notes),
        "summary": msgspec.to_builtins(read_summary(out)),
    }


def _show_manifest(manifest: "Manifest", out: Path) -> None:
    """Summary of preparing for people: every row is kept or quarantined with a reason."""
    rows = [
        (
            name,
            table.rows,
            table.kept,
            ", ".join(f"{n:,} {reason}" for reason, n in table.quarantined.items()) or 0,
        )
        for name, table in manifest.report.items()
    ]
    show(grid(str(out), ("table", "rows", "kept", "quarantined"), rows))
    for note in manifest.notes:
        say(f"note: {note}")


def _show_summary(out: Path) -> None:
    """What a person needs to know before training, and what to run next."""
    from clickscale.cli.inspection import summary_table
    from clickscale.data.preparation.summary import read_summary

    summary = read_summary(out)
    show(summary_table(summary))
    for line in summary.warnings:
        say(f"warning: {line}")
    for word, command in zip(("next:", "then:"), summary.next_steps(str(out)), strict=True):
        say(f"{word} {command}")


def inspect_data(
    data: Folder,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw it (.png, .svg).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a prepared data set holds.

    Label rates by day, histories, coverage, vocabulary sizes, quarantined rows. The hash of every file is
    compared first.
    """
    from clickscale.cli.inspection import inspection_tables
    from clickscale.data.checks.contents import inspect_dataset
    from clickscale.data.dataset import open_dataset

    if plot and plot.suffix not in PLOTS:
        raise ConfigError(f"--plot {plot}: the name must end in {', '.join(PLOTS)}.")
    dataset = open_dataset(data)
    dataset.verify()
    inspection = inspect_dataset(dataset)
    if plot:
        from clickscale.report.data_plots import plot_inspection  # matplotlib is slow to load

        plot_inspection(inspection, plot)
        say(f"plot: {plot}")
    if as_json:
        emit(inspection.to_dict())
        return
    for table in inspection_tables(inspection):
        show(table)


def check_leaks(
    data: Folder,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Impressions whose statistics are redone.")
    ] = 128,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", metavar="NAME", help="A value that may tell the label; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Prove that no impression sees the future.

    No history and no statistic may show anything that was not known at the candidate's time, and no value
    may tell the label: no feature, no presence of a behavior, no order of rows.

    Exit code 1 if it finds a leak; a value named with --accept is a warning only.
    """
    from clickscale.data.checks.leaks import leak_check

    report = leak_check(data, sample=sample, accept=accept or [])
    if as_json:
        emit(report.to_dict())
        return 0 if report.ok else 1
    show(grid(f"Compared in {report.dataset}", ("check", "rows"), report.checked.items()))
    for finding in report.findings:
        where = f" (such as rows {', '.join(map(str, finding.rows))})" if finding.rows else ""
        typer.echo(f"{finding.severity}: {finding.code}: {finding.count:,} {finding.message}{where}")
    typer.echo("no leak" if report.ok else "leaks found")
    return 0 if report.ok else 1


def list_logs(as_json: AsJson = False) -> None:
    """List the public logs that have an adapter."""
    from clickscale.data.fetch import catalog

    found = catalog()
    if as_json:
        keys = ("title", "size", "licence", "where")
        emit([{"name": name} | {key: getattr(log, key) for key in keys} for name, log in found.items()])
        return
    rows = [(name, log.size, log.licence, log.title) for name, log in found.items()]
    show(grid("Public logs", ("adapter", "size", "licence", "about"), rows))


def get_log(
    name: Annotated[str, typer.Argument(help="Name of a public log; clickscale data list shows them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    source: Annotated[
        Path | None, typer.Option("--source", help="A local folder or archive instead of the network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Get a public log, its bytes checked.

    Where its licence asks for a download by hand, the message says where and what to do next.
    """
    from clickscale.data.fetch import get

    folder = get(name, out, source)
    if as_json:
        emit({"name": name, "folder": str(folder)})
    else:
        say(f"next: clickscale prepare {name}:{folder} --out prepared")


def _warnings(draft: str) -> Iterator[str]:
    """Yield the first sentence of each warning of a draft, and name what was not found and not used."""
    lines = draft.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("# No column names the"):
            yield line.removeprefix("# ").split(".")[0] + "."
        if line.startswith(mark := "# Not used: "):
            name, _, why = line.removeprefix(mark).partition(" (")
            yield f"{name} is not used. {why.rpartition('). ')[2]}"
        if line.startswith(mark := "# WARNING: "):
            block = itertools.takewhile(lambda each: each.startswith("# "), lines[number + 1 :])
            told = " ".join([line.removeprefix(mark), *(each.removeprefix("# ") for each in block)])
            yield told.split(". ")[0].removesuffix(".") + "."


def guess_schema(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="Tables (CSV, Parquet, JSON lines), the folder of a log, or one for FuxiCTR or TorchEasyRec."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it here, not to stdout.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLUMN", help="A feature, whatever its name tells; may be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="COLUMN", help="The outcome, whatever its name; may be repeated."),
    ] = None,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="NAME", help="Of several in one dataset_config.yaml.")
    ] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented first draft of the schema.toml of a log."""
    from clickscale.data.described.drafts.guess import guess

    if out is not None and out.exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another file or give --overwrite.")
    text = guess(tables, out.parent if out else None, keep or [], dataset, label or [])
    if out is not None:
        replace_text(out, text)
        for warning in _warnings(text):
            say(f"warning: {warning}")
        say(f"next: read {out}, then clickscale prepare {out} --out prepared")
    if as_json:
        emit({"schema": text, "file": str(out) if out else None})
    elif out is None:
        typer.echo(text)
