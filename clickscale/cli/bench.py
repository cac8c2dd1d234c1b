"""The verbs ``bench ...``: speed of an artifact."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Overwrite, check_folder
from clickscale.errors import ConfigError
from clickscale.files import replace_text

if TYPE_CHECKING:
    from clickscale.artifact import Artifact
    from clickscale.costs.latency import Latencies, ScoringCell, StateCell, Timing

JSON, PLOT = "scoring.json", "scoring.svg"
MOST = 100_000  # behaviors or candidates: more would only fill the memory
_BUSY = 0.9  # of a core: with less, the times include the load of other processes


def bench_scoring(
    artifact: Annotated[Path, typer.Argument(help="Folder of an artifact, such as runs/suan/artifact.")],
    candidates: Annotated[
        str, typer.Option("--candidates", metavar="N,N,...", help="Candidates of a request.")
    ] = "1,10,100,500,1000",
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N,N,...", help="Behaviors of the user.")
    ] = "50,100,200,500,1000",
    repeats: Annotated[int, typer.Option("--repeats", min=3, help="Runs of a cell, if time allows.")] = 30,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="Time of a cell; at least three runs are done.")
    ] = 1.0,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads; 0 chooses.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help=f"Folder to write {JSON} and {PLOT} into.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure the latency of scoring one request.

    Four variants take turns: one candidate at a time, all candidates over one encoding, from a cached state,
    and after appending one behavior to it. Requests are made up from the sizes of the artifact's fields.
    Reading and encoding raw requests is not measured. Times are p50 / p99 in milliseconds.
    """
    from clickscale.artifact import load_artifact
    from clickscale.costs.latency import measure_latency
    from clickscale.runtime import set_threads

    counts, behaviors = _numbers("candidates", candidates, 1), _numbers("lengths", lengths, 2)
    check_folder(out, (JSON, PLOT), overwrite)
    loaded = load_artifact(artifact)
    say(set_threads(threads))
    with Stages() as stages:
        latencies = measure_latency(
            loaded.model,
            loaded.config.features,
            behaviors,
            counts,
            trained=loaded.config.length,
            repeats=repeats,
            seconds=seconds,
            progress=stages,
        )
    document = _document(loaded, latencies)
    if out is not None:
        _write(out, document, _plot(loaded, latencies))
    if as_json:
        emit(document)
        return
    _show(loaded, latencies)


def _numbers(name: str, text: str, least: int) -> list[int]:
    """Ascending whole numbers of a comma-separated list.

    Raises:
        ConfigError: a part is not a whole number, or is out of bounds.
    """
    try:
        values = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        values = []
    if not values or values[0] < least or values[-1] > MOST:
        raise ConfigError(
            f"--{name} is {text!r}; give whole numbers of {least} to {MOST:,} with commas, such as 50,100."
        )
    return values


def _document(artifact: "Artifact", latencies: "Latencies") -> dict[str, Any]:
    """Results with the artifact and the versions that they belong to."""
    import torch

    config = artifact.config
    about = {"artifact": str(artifact.path), "model": config.model, "grade": config.grade}
    return about | {"torch": torch.__version__, "unit": "ms"} | latencies.to_dict()


def _write(out: Path, document: dict[str, Any], plot: str) -> None:
    from clickscale.report.plots import save_svg

    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / JSON, json.dumps(document, indent=2))
    save_svg(plot, out / PLOT)
    say(f"{out / JSON} and {out / PLOT}")


def _plot(artifact: "Artifact", latencies: "Latencies") -> str:
    """Latency against candidates, a panel per length."""
    from clickscale.report.latency_plots import latency

    panels: dict[str, dict[str, Any]] = {}
    for length in dict.fromkeys(cell.length for cell in latencies.cells):
        cells = [cell for cell in latencies.cells if cell.length == length]
        panels[f"L = {_marked(length, latencies)}"] = {
            name: (
                [cell.candidates for cell in cells],
                [cell.timings[name].p50 for cell in cells],
                [cell.timings[name].p99 for cell in cells],
            )
            for name in cells[0].timings
        }
    return latency(f"{_title(artifact)}: scoring one request, {_threads(latencies)}", panels)


def _show(artifact: "Artifact", latencies: "Latencies") -> None:
    """Print both tables and the meaning of the marks."""
    from clickscale.costs.latency import CACHED, ONE_BY_ONE, PARALLEL, VARIANTS

    headers = ("L", "candidates", *VARIANTS, "one by one / parallel", "parallel / cached")
    rows = [
        (
            _marked(cell.length, latencies),
            cell.candidates,
            *(_times(cell.timings.get(name), cell.candidates) for name in VARIANTS),
            _ratio(cell, ONE_BY_ONE, PARALLEL),
            _ratio(cell, PARALLEL, CACHED),
        )
        for cell in latencies.cells
    ]
    show(grid(f"{_title(artifact)}, {_threads(latencies)}: milliseconds p50 / p99", headers, rows))
    headers = ("L", "encode", "append one", "of encode", "state", "score-only", "in fp16", "max |dlogit|")
    show(
        grid(
            "User side: milliseconds and bytes",
            headers,
            [_state(cell, latencies) for cell in latencies.states],
        )
    )
    few = min(timing.runs for cell in latencies.cells for timing in cell.timings.values())
    typer.echo(f"Fewest runs of a cell: {few}; of few runs p99 is close to the slowest.")
    if latencies.share < _BUSY:
        typer.echo(
            f"Others kept the machine busy: this process had {latencies.share:.0%} of a core, "
            "and the times include its waiting."
        )
    if any(_scaled(t, cell.candidates) for cell in latencies.cells for t in cell.timings.values()):
        typer.echo("~ measured on fewer candidates and scaled up, since all would take too long.")
    if any(cell.length > latencies.trained for cell in latencies.cells):
        typer.echo(f"* longer than the {latencies.trained} behaviors that the model was trained with.")


def _state(cell: "StateCell", latencies: "Latencies") -> tuple[object, ...]:
    """Line of one length in the table of the user side."""
    share = f"{cell.append.p50 / cell.encode.p50:.1%}" if cell.append else None
    times = (_times(cell.encode, 1), _times(cell.append, 1), share)
    sizes = (cell.appendable, cell.scoring, cell.half)
    return (_marked(cell.length, latencies), *times, *sizes, f"{cell.gap:.1e}")


def _title(artifact: "Artifact") -> str:
    return f"{artifact.config.model} {artifact.config.grade}"


def _threads(latencies: "Latencies") -> str:
    return f"{latencies.threads} thread" + ("s" if latencies.threads > 1 else "")


def _marked(length: int, latencies: "Latencies") -> str:
    """A length, with a star if the model was not trained for it."""
    return f"{length:,}" + ("*" if length > latencies.trained else "")


def _scaled(timing: "Timing", candidates: int) -> bool:
    return timing.measured < candidates


def _times(timing: "Timing | None", candidates: int) -> str | None:
    """``1.23 / 1.40``, with a mark if the times are scaled."""
    if timing is None:
        return None
    return ("~" if _scaled(timing, candidates) else "") + f"{_short(timing.p50)} / {_short(timing.p99)}"


def _short(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(cell: "ScoringCell", slow: str, fast: str) -> str | None:
    """Ratio of the medians, such as 2.3x."""
    ratio = cell.faster(slow, fast)
    return None if ratio is None else f"{ratio:.1f}x"
