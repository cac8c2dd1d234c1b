"""The verbs ``store ...``: a store is filled and looked at."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson

StoreURL = Annotated[
    str, typer.Option("--store", metavar="URL", help="lmdb:///PATH, redis://HOST:PORT/N or unix:///PATH.")
]


def load_store(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A prepared data set.")],
    store: StoreURL,
    before: Annotated[
        str,
        typer.Option(
            "--before",
            metavar="MOMENT",
            help="Load what happened before the first impression of valid or test, or before a time in "
            "seconds; all by default.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Fill a new store with a data set: items, profiles, histories, and the counters of its statistics.

    A load that was interrupted goes on where it stopped when it is started again. After ? the URL takes
    behaviors=N, the number that the store keeps of a user.
    """
    from clickscale.data.dataset import open_dataset
    from clickscale.serving.store.loading import load_dataset, moment_of
    from clickscale.serving.store.opening import open_store
    from clickscale.serving.store.reading import Reading

    dataset = open_dataset(data)
    moment = moment_of(dataset, before)
    opened = open_store(store, Reading.of_data(dataset))
    try:
        with Stages() as stages:
            is_new = load_dataset(opened, dataset, moment, stages)
        facts = opened.facts()
    finally:
        opened.close()
    if as_json:
        emit(
            {
                "data": str(data),
                "store": store,
                "moment": moment,
                "loaded": is_new,
                "facts": to_builtins(facts),
            }
        )
        return
    for warning in facts.warnings:
        say(warning)
    done = "holds" if is_new else "held already"
    size = f"{facts.records:,} records, {facts.bytes / 1e6:,.1f} MB"
    say(f"{store} {done} everything that happened before {moment}: {size}")


def inspect_store(
    artifact: Annotated[
        Path,
        typer.Argument(metavar="ARTIFACT_OR_DATA", help="That the store is for: an artifact or data set."),
    ],
    store: StoreURL,
    as_json: AsJson = False,
) -> None:
    """Show the size and the settings of a store, and test that it can be read and written."""
    from clickscale.artifact import load_artifact
    from clickscale.data.dataset import open_dataset
    from clickscale.serving.store.opening import open_store
    from clickscale.serving.store.reading import Reading

    is_artifact = (artifact / "weights.safetensors").is_file()
    reading = Reading.of(load_artifact(artifact)) if is_artifact else Reading.of_data(open_dataset(artifact))
    opened = open_store(store, reading)
    try:
        opened.check()
        facts = opened.facts()
    finally:
        opened.close()
    if as_json:
        emit({"store": store, "facts": to_builtins(facts)})
        return
    rows = [
        ["kind", facts.kind],
        ["records", f"{facts.records:,}"],
        ["megabytes", f"{facts.bytes / 1e6:,.1f}"],
        ["behaviors kept of a user", f"{facts.bound:,}"],
        ["loaded before", "nothing" if facts.loaded is None else str(facts.loaded)],
    ]
    show(grid("", ["store", store], rows))
    for warning in facts.warnings:
        say(warning)
