"""The verb ``replay-check``: served scores against evaluated ones."""

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, MaybeData
from clickscale.cli.runs import Part
from clickscale.errors import ConfigError

if TYPE_CHECKING:
    from clickscale.artifact import Artifact
    from clickscale.data.dataset import Dataset
    from clickscale.serving.replay_check import ReplayReport

TOKEN = "CLICKSCALE_TOKEN"


def replay_part(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_ARTIFACT", help="A run, or an artifact.")],
    data: MaybeData = None,
    store: Annotated[
        str, typer.Option("--store", metavar="URL", help="A new store, into which the data set is loaded.")
    ] = "memory://",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Ask this server instead, whose store was loaded with --before and the same part. Its token "
            f"stands in {TOKEN}.",
        ),
    ] = None,
    part: Part = "test",
    most: Annotated[
        int, typer.Option("--most", min=0, help="Compare only the first impressions of the part; 0 for all.")
    ] = 0,
    limit: Annotated[
        float, typer.Option("--limit", min=0.0, help="Of the difference of two probabilities.")
    ] = 1e-5,
    as_json: AsJson = False,
) -> int:
    """Replay a part as events, and compare what is served with what evaluation measured.

    A store holds everything that happened before the part. Then every request of the log is answered from its
    user, time and candidates alone, and its impressions and behaviors are appended. Exit code 1 if a score
    differs.
    """
    from clickscale.artifact import load_artifact
    from clickscale.serving.replay_check import artifact_of, open_replayed

    folder, where = artifact_of(source, data)
    artifact = load_artifact(folder)
    dataset = open_replayed(where, artifact)
    with Stages() as stages:
        report, server = _replayed(artifact, dataset, store, url, part, most, limit, stages)
    if as_json:
        told = {"equal": report.is_equal, "source": str(source), "part": part, **server}
        emit(msgspec.to_builtins(report) | told)
    else:
        _show(report, server)
    return 0 if report.is_equal else 1


def _replayed(
    artifact: "Artifact",
    dataset: "Dataset",
    store: str,
    url: str | None,
    part: str,
    most: int,
    limit: float,
    stages: Stages,
) -> "tuple[ReplayReport, dict[str, dict[str, int]]]":
    """Replay to a server, or to a store and a scorer here; also which versions and states answered there."""
    from clickscale.inference.scorer import Scorer
    from clickscale.serving.replay_check import StoreTarget, replay_check
    from clickscale.serving.replay_http import ServerTarget
    from clickscale.serving.store.loading import load_dataset, moment_of
    from clickscale.serving.store.opening import open_store
    from clickscale.serving.store.reading import Reading

    moment = moment_of(dataset, part)
    check = partial(
        replay_check, artifact, dataset, moment=moment, part=part, most=most, limit=limit, progress=stages
    )
    if url is not None:
        if store != "memory://":
            raise ConfigError("--url asks a server, which has a store of its own; leave --store out.")
        with closing(ServerTarget(url, os.environ.get(TOKEN, ""))) as server:
            return check(target=server), {"versions": dict(server.versions), "states": dict(server.states)}
    opened = open_store(store, Reading.of(artifact))
    try:
        load_dataset(opened, dataset, moment, stages)
        local = StoreTarget(opened, Scorer(artifact))
        report = check(target=local)
    finally:
        opened.close()
    if local.missing:
        say(f"Requests lacked these statistics: {', '.join(sorted(local.missing))}.")
    return report, {}


def _show(report: "ReplayReport", server: dict[str, dict[str, int]]) -> None:
    if report.differences:
        rows = [
            [str(one.row), str(one.time), str(one.user), str(one.item), one.label, one.served, one.evaluated]
            for one in report.differences
        ]
        headers = ["row", "time", "user", "item", "label", "served", "evaluated"]
        show(grid("First differences", headers, rows))
    say(
        f"{report.scored:,} scores of {report.requests:,} requests after {report.events:,} events: "
        f"max |dp| = {report.largest:.1e}, {report.differing:,} beyond {report.limit:g}"
    )
    for title, counts in server.items():
        if counts:
            say(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
