"""Verbs of simulated worlds: ``data world`` makes one, ``data truth`` says how good a model of it can be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.data import PLOTS, Folder, show_prepared
from clickscale.cli.options import AsJson, Overwrite, Seed, Sets, names
from clickscale.cli.runs import Part
from clickscale.errors import ConfigError

if TYPE_CHECKING:
    from clickscale.world.world_config import WorldConfig


def make_world(
    impressions: Annotated[
        str, typer.Option("--impressions", metavar="N", help="Impressions, such as 3e6; at least that many.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Data set to write.")],
    preset: Annotated[
        Literal["market", "easy", "cold"],
        typer.Option("--preset", help="market tells sizes and lengths apart; easy is for first steps."),
    ] = "market",
    seed: Seed = 0,
    sets: Sets = None,
    chunk_rows: Annotated[int, typer.Option("--chunk-rows", min=1, help="Rows read at a time.")] = 1 << 17,
    memory_rows: Annotated[int, typer.Option("--memory-rows", min=1, help="Rows sorted in memory.")] = 1
    << 22,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set of a simulated market whose true click probabilities are known.

    Users live through time: they browse, buy what is due, are shown requests, click, and what they did
    changes what they want. --set changes an option of the world, such as strengths.need=0.
    """
    from clickscale.config_text import override
    from clickscale.data.preparation.prepare import prepare
    from clickscale.world.world_config import preset_config
    from clickscale.world.world_log import world_source

    config: WorldConfig = override(preset_config(preset, _count(impressions), seed), sets or [])
    with Stages() as stages:
        manifest = prepare(
            world_source(config),
            out,
            overwrite=overwrite,
            chunk_rows=chunk_rows,
            memory_rows=memory_rows,
            progress=stages,
        )
    show_prepared(manifest, out, as_json)


def _count(text: str) -> int:
    """Read a whole number such as 3000000 or 3e6."""
    try:
        number = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        number = 0.5
    if not number.is_integer():
        raise ConfigError(f"--impressions {text!r} is not a whole number; write one, such as 3e6.")
    return int(number)


def show_truth(
    data: Folder,
    part: Part = "test",
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", metavar="L,...", help="Also of oracles that see the last L behaviors."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", min=1000, help="Impressions, at most, to fit an oracle and to measure it."),
    ] = 100_000,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw the world (.png, .svg).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how good a model of a simulated world can be.

    Expected AUC, GAUC and log-loss of the true probabilities and, with --lengths, of oracles that see no
    behavior and only the last ones (estimates from below, which need LightGBM).
    """
    from clickscale.data.dataset import open_dataset
    from clickscale.world.truth import require_world

    if plot and plot.suffix not in PLOTS:
        raise ConfigError(f"--plot {plot}: the name must end in {', '.join(PLOTS)}.")
    dataset = open_dataset(data)
    require_world(dataset)
    lines = _truth_lines(dataset, part, _lengths(lengths), sample)
    if plot:
        from clickscale.report.world_plots import plot_world  # matplotlib is slow to load

        by_length = {line["length"]: line["auc"] for line in lines if "length" in line}
        plot_world(dataset, by_length, lines[-1]["auc"], plot)
        say(f"plot: {plot}")
    if as_json:
        emit({"dataset": str(data), "part": part, "lines": lines})
        return
    headers = ("knows", "expected AUC", "expected GAUC", "expected log-loss")
    rows = [(line["knows"], *(f"{line[key]:.4f}" for key in ("auc", "gauc", "log_loss"))) for line in lines]
    show(grid(f"{data}, part {part}", headers, rows))


def _lengths(text: str | None) -> tuple[int, ...]:
    """Read the lengths of oracles."""
    found = names(text or "")
    wrong = [length for length in found if not length.isdecimal() or int(length) < 1]
    if wrong:
        raise ConfigError(f"--lengths {wrong[0]!r} is not a number of behaviors; write such as 10,50,200.")
    return tuple(int(length) for length in found)


def _truth_lines(dataset: Any, part: str, lengths: tuple[int, ...], sample: int) -> list[dict[str, Any]]:
    """Lines of the table, the best last."""
    import numpy as np

    from clickscale.evaluation.regret import expected
    from clickscale.world.truth import true_probability
    from clickscale.world.window_oracle import sample_rows, window_oracles

    rows = sample_rows(dataset.part(part), sample)
    truth, users = true_probability(dataset, rows), np.asarray(dataset.impressions["user"])[rows]
    knowing: list[tuple[dict[str, Any], Any]] = []
    for length, logit in window_oracles(dataset, rows, (0, *lengths) if lengths else (), sample).items():
        knows = f"the last {length:,} behaviors" if length else "no behavior"
        knowing.append(({"knows": knows, "length": length}, logit))
    knowing.append(({"knows": "the truth"}, np.log(truth) - np.log1p(-truth)))
    lines = []
    for about, logit in knowing:
        found = expected(logit, truth, users)
        lines.append(about | {"auc": found.auc, "gauc": found.gauc, "log_loss": found.log_loss})
    return lines
