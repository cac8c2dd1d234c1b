"""The verb ``ablate``: train the ablations that a paper prints and write its tables."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.lab.benchmarks import show_forecast
from clickscale.cli.options import AsJson, Data, Sets, names

_SHOWN = 11  # columns that a terminal shows: accuracy and tests; the page has the costs as well


def ablate_models(
    paper: Annotated[Literal["suan", "est"], typer.Argument(help="Whose tables: suan or est.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the ablation.")],
    tables: Annotated[
        str, typer.Option("--tables", metavar="N,N,...", show_default="all", help="Tables of the paper.")
    ] = "",
    ids: Annotated[
        str,
        typer.Option(
            "--ids", metavar="DIR", help="The data set with semantic ids as item features, for EST's table 2."
        ),
    ] = "",
    grades: Annotated[
        str,
        typer.Option(
            "--grades", metavar="G,G,...", help="Sizes; those after the first are for SUAN's table 5."
        ),
    ] = "size-2,size-3",
    length: Annotated[
        int, typer.Option("--length", min=1, help="Behaviors that a candidate sees at most.")
    ] = 100,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each line.")] = 3,
    label: Annotated[str, typer.Option("--label", help="Label to predict; the first one by default.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at the same time.")] = 1,
    sets: Sets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast the time only.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train the ablations that a paper prints and write its tables.

    suan: tables 3 (A to E) and 5 (F and G at every grade of --grades). est: tables 1 (full attention trained
    without a block), 2 (how content enters) and 4 (full attention, LCA, CSA). Every line is trained from the
    start and tested against the first line of its table, over users and over seeds. DIR holds ablation.md,
    ablation.json, ablation.svg and an ordinary run for every cell. The same command continues an ablation
    that was stopped or killed, and adds tables, grades or seeds to one.

    --set KEY=VALUE changes an option of all runs, --set MODEL.KEY=VALUE that of one model's.
    """
    from clickscale.benchmarking.ablation import ablate, forecast_ablation
    from clickscale.benchmarking.ablation_config import AblationConfig

    config = AblationConfig(
        paper=paper,
        data=str(data),
        ids=ids,
        tables=names(tables),
        grades=names(grades),
        length=length,
        label=label,
        seeds=seeds,
        sets=tuple(sets or ()),
    )
    if dry_run:
        return show_forecast(forecast_ablation(config, out, jobs=jobs, say=say), as_json, "line")
    found = ablate(config, out, jobs=jobs, say=say)
    if as_json:
        from clickscale.benchmarking.ablation_page import to_document

        emit(to_document(found))
    else:
        from clickscale.benchmarking.ablation_page import HEADERS, cells_of

        for table in found.tables:
            rows = [cells_of(line)[:_SHOWN] for line in table.lines]
            show(grid(table.title, HEADERS[:_SHOWN], rows))
    for name, why in found.failed.items():
        say(f"missing: {name}: {why}")
    say(f"{out / 'ablation.md'}")
    return 1 if found.failed else 0
