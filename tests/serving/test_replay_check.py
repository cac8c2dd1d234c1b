"""Replays of a part: equal where nothing is wrong, and red for every mutant."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from clickscale.artifact import MANIFEST, load_artifact
from clickscale.cli import main
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ArtifactError, ConfigError, DataError, RunError, StoreError
from clickscale.files import file_entry
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.access import load_access
from clickscale.serving.replay_check import (
    ReplayReport,
    StoreTarget,
    artifact_of,
    open_replayed,
    replay_check,
)
from clickscale.serving.replay_http import ServerTarget
from clickscale.serving.store import keyed_store
from clickscale.serving.store.count_records import CountRecord
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.publishing import publish
from tests.data.described.logs import TABLE, clicks, save
from tests.data.tiny import source_of, tiny_tables
from tests.inference.test_statistic_counters import drawn_data, schema_with
from tests.serving.live import live
from tests.trained import tiny_artifact, tiny_prepared

TOKEN = "replay-0123456789abcdef"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of an artifact and of its data set, in which feedback and outcomes come late."""
    folder = tmp_path_factory.mktemp("served")
    tables = tiny_tables(impressions=300, behaviors=400, known_at=True)
    for row in [*tables["impressions"], *tables["behaviors"]]:
        row["time"] -= row["time"] % 3600  # many events in one second
        if "known_at" in row:
            row["known_at"] += -row["known_at"] % 3600
    prepare(source_of(schema_with(7200), tables), folder / "data")
    return tiny_artifact(folder, open_dataset(folder / "data"), "lightsuan"), folder / "data"


def replayed(served: tuple[Path, Path], part: str = "test", most: int = 0) -> ReplayReport:
    artifact = load_artifact(served[0])
    dataset = open_replayed(served[1], artifact)
    store = open_store("memory://", Reading.of(artifact))
    moment = moment_of(dataset, part)
    load_dataset(store, dataset, moment)
    target = StoreTarget(store, Scorer(artifact))
    report = replay_check(artifact, dataset, target, moment, part=part, most=most)
    assert target.missing == set()
    return report


@pytest.mark.parametrize("part", [pytest.param("valid", marks=pytest.mark.wide), "test"])
def test_what_is_served_is_what_was_evaluated(part: str, served: tuple[Path, Path]) -> None:
    report = replayed(served, part)
    assert report.is_equal
    assert report.scored == len(open_dataset(served[1]).part(part)) >= 30
    assert report.largest <= 1e-5
    assert report.events > 10


class _Untold(StoreTarget):
    """A target whose events do not tell when histories may show them."""

    def append(self, events: Sequence[Event]) -> None:
        super().append([msgspec.structs.replace(event, known_at=None) for event in events])


class _InOne(StoreTarget):
    """A target whose events are impressions that do not say whether histories show them."""

    def append(self, events: Sequence[Event]) -> None:
        shown = [event for event in events if event.labels is not None]
        super().append([msgspec.structs.replace(event, behavior=msgspec.UNSET) for event in shown])


def test_a_log_of_positives_is_replayed_without_its_drawn_negatives(tmp_path: Path) -> None:
    dataset, clicks = drawn_data(tmp_path)
    artifact = tiny_artifact(tmp_path, dataset, "lightsuan")
    report = replayed((artifact, tmp_path / "data"))
    assert report.is_equal
    assert report.scored == len(dataset.part("test")) > 30
    first = moment_of(dataset, "test")
    told = [row for row in clicks if row["time"] >= first]
    assert len(told) <= report.events < len(told) + len(dataset.behaviors["time"])


@pytest.mark.parametrize(
    ("behaviors", "seconds"),
    [("", 0), ("where = 'clicked == 1'", 3600), ("where = 'clicked == 1'\nknown_after = 7200", 7200)],
)
@pytest.mark.parametrize("target", [_Untold, pytest.param(_InOne, marks=pytest.mark.wide)])
def test_histories_show_behaviors_as_late_as_the_log_did(
    target: type[StoreTarget], behaviors: str, seconds: int, tmp_path: Path
) -> None:
    save(tmp_path, clicks())
    toml = TABLE.replace("FILES", "clicks.csv").replace('= "clicked" }', '= "clicked", delay = 3600 }')
    (tmp_path / "schema.toml").write_text(f"{toml}[behaviors]\n{behaviors}\n")
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    late = set((dataset.known_at - np.asarray(dataset.behaviors["time"])).tolist())
    assert late == {seconds}
    artifact = load_artifact(tiny_artifact(tmp_path, dataset, labels=("clicked",)))
    store = open_store("memory://", Reading.of(artifact))
    moment = moment_of(dataset, "test")
    load_dataset(store, dataset, moment)
    assert replay_check(artifact, dataset, target(store, Scorer(artifact)), moment).is_equal


def test_a_loaded_store_goes_on_where_the_log_ends_whatever_the_delays(tmp_path: Path) -> None:
    rows = clicks()
    save(tmp_path, rows)
    toml = TABLE.replace("FILES", "clicks.csv").replace('= "clicked" }', '= "clicked", delay = 864000 }')
    statistics = '[[statistics]]\nname = "shown"\nby = ["item"]\nof = "count"\n'
    statistics += '[[statistics]]\nname = "rate"\nby = ["item"]\nprior = 0\n'
    statistics += '[behaviors]\nfields = [{ name = "past_clicked", column = "clicked" }]\n'
    (tmp_path / "schema.toml").write_text(toml + statistics)
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    store = open_store("memory://", Reading.of_data(dataset))
    end = moment_of(dataset)
    assert end == rows[-1]["time"] + 1
    load_dataset(store, dataset, end)
    own = [row for row in rows if row["item_id"] == "i3"]
    for moment, known in ((end, 0), (end + 864_000, 24)):
        asked = {"user": "u7", "time": moment, "candidates": [{"item": "i3"}]}
        completed = store.complete(asked, most=1000)
        [candidate] = completed["candidates"]
        assert candidate["shown"] == len(own) == 24
        if known:
            assert candidate["rate"] == pytest.approx(sum(row["clicked"] for row in own) / known)
        past = [row["time"] for row in rows if row["user_id"] == "u7"] if known else []
        assert [row["time"] for row in completed["behaviors"]] == past


def test_the_first_impressions_of_a_part_can_be_chosen(served: tuple[Path, Path]) -> None:
    assert replayed(served, most=10).scored == 10


def _without_events(store: KeyedStore, events: Any) -> list[bool]:
    return [True] * len(events)


def _without_impressions(append: Callable[..., list[bool]]) -> Callable[..., list[bool]]:
    def mutant(store: KeyedStore, events: list[Event]) -> list[bool]:
        return append(store, [msgspec.structs.replace(event, labels=None) for event in events])

    return mutant


def _without_delay(at: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(record: CountRecord, tallies: Any, moment: int, load: Any) -> Any:
        early = [
            type(tally)(tally.name, tally.by, tally.of, tally.label, 0, tally.window, tally.prior)
            for tally in tallies
        ]
        return at(record, early, moment, load)

    return mutant


@pytest.mark.wide
def test_mutants_of_the_store_are_seen(served: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = keyed_store.user_before
    mutants: list[tuple[Any, str, Any]] = [
        (KeyedStore, "append", _without_events),
        (KeyedStore, "append", _without_impressions(KeyedStore.append)),
        (CountRecord, "at", _without_delay(CountRecord.at)),
        # A behavior that becomes known in the second of the request is shown.
        (keyed_store, "user_before", lambda reader, owner, at, *rest: read(reader, owner, at + 1, *rest)),
        (keyed_store, "user_before", lambda reader, owner, at, _, last: read(reader, owner, at, 3, last)),
        (keyed_store, "user_before", lambda reader, owner, *rest: read(reader, owner[:-1], *rest)),
    ]
    for place, name, mutant in mutants:
        with monkeypatch.context() as patched:
            patched.setattr(place, name, mutant)
            report = replayed(served, most=40)
        assert not report.is_equal
        assert report.differing > 0
        assert len(report.differences) == min(report.differing, 10)
        assert max(abs((one.served or 0) - one.evaluated) for one in report.differences) > 1e-5


def test_users_and_items_that_a_log_does_not_have_are_no_obstacle(tmp_path: Path) -> None:
    schema = schema_with(0)
    rows = tiny_tables(impressions=300)["impressions"]
    for name, drop in (("user", ["user"]), ("item", ["item"])):
        by = [s for s in schema.statistics if s.by == ("position",)]
        bare = msgspec.structs.replace(
            schema,
            absent=(name,),
            profile=() if name == "user" else schema.profile,
            behavior=() if name == "user" else schema.behavior,
            items=() if name == "item" else schema.items,
            statistics=(*by, msgspec.structs.replace(schema.statistics[1], by=("position",))),
        )
        tables: Any = {"impressions": [{k: v for k, v in row.items() if k not in drop} for row in rows]}
        try:
            prepare(source_of(bare, tables), tmp_path / name)
        except DataError:
            tables = {"impressions": [row | {name: 0} for row in rows]}
            prepare(source_of(bare, tables), tmp_path / name)
        dataset = open_dataset(tmp_path / name)
        (tmp_path / f"out-{name}").mkdir()
        artifact = tiny_artifact(tmp_path / f"out-{name}", dataset)
        assert replayed((artifact, tmp_path / name)).is_equal


def test_what_cannot_be_replayed_is_refused(served: tuple[Path, Path], tmp_path: Path) -> None:
    artifact = load_artifact(served[0])
    dataset = open_dataset(served[1])
    store = open_store("memory://", Reading.of(artifact))
    with pytest.raises(DataError, match="or begins before"):
        replay_check(artifact, dataset, StoreTarget(store, Scorer(artifact)), 4_000_000_000)
    with pytest.raises(DataError, match="is no moment"):
        moment_of(dataset, "soon")
    with pytest.raises(RunError, match="names no data set"):
        artifact_of(served[0], None)
    with pytest.raises(ArtifactError, match="encoder"):
        open_replayed(tiny_prepared(tmp_path).path, artifact)


def test_an_encoder_that_another_release_wrote_is_the_same(served: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(served[0], folder)
    written = json.loads((folder / "encoder.json").read_text("utf-8"))
    del written["schema"]["groups"]  # a key that came later
    (folder / "encoder.json").write_text(json.dumps(written), "utf-8")
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    manifest["files"]["encoder.json"] = msgspec.to_builtins(file_entry(folder / "encoder.json"))
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    artifact = load_artifact(folder)
    assert open_replayed(served[1], artifact).path == served[1]


# --- the verbs


def test_the_verb_loads_replays_and_says_so(
    served: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, data = map(str, served)
    url = f"lmdb://{tmp_path}/store?sync=system"
    assert main(["store", "load", data, "--store", url, "--before", "test"]) == 0
    assert "holds everything that happened before" in capsys.readouterr().err
    assert main(["store", "load", data, "--store", url, "--before", "test"]) == 0
    assert "held already everything that happened before" in capsys.readouterr().err
    assert main(["store", "inspect", artifact, "--store", url, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert (facts["kind"], facts["loaded"]) == ("lmdb", moment_of(open_dataset(served[1]), "test"))
    assert any("power cut" in warning for warning in facts["warnings"])
    assert main(["store", "inspect", data, "--store", url]) == 0
    assert "behaviors kept of a user   10,000" in capsys.readouterr().out
    assert main(["replay-check", artifact, "--data", data, "--store", url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["equal"]
    assert report["largest"] <= 1e-5
    # The store has the events of the part now, so their ids are known and the histories are those of the end.
    assert main(["replay-check", artifact, "--data", data, "--limit", "0", "--most", "20"]) == 1
    shown = capsys.readouterr()
    assert "First differences" in shown.out
    assert "20 scores of" in shown.err


class _Server(BaseHTTPRequestHandler):
    """Serves a store and a scorer as the server does."""

    target: StoreTarget
    scorer: Scorer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers.get("authorization") != "Bearer secret":
            return self._answer(401, {"error": {"code": "unauthorized", "message": "no token"}})
        if self.path == "/api/v1/events":
            self.target.append([msgspec.convert(event, Event) for event in body["events"]])
            return self._answer(200, {"appended": [True] * len(body["events"]), "settled": []})
        return self._answer(200, {"model": "1", "scores": self.target.rank(body)})

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""

    protocol_version = "HTTP/1.1"


@contextmanager
def _server(target: StoreTarget) -> Iterator[str]:
    handler = type("Handler", (_Server,), {"target": target})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_is_asked_over_http(
    served: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = load_artifact(served[0])
    dataset: Dataset = open_dataset(served[1])
    store = open_store("memory://", Reading.of(artifact))
    load_dataset(store, dataset, moment_of(dataset, "test"))
    with _server(StoreTarget(store, Scorer(artifact))) as url:
        arguments = ["replay-check", str(served[0]), "--data", str(served[1]), "--url", url]
        assert main(arguments) == 2
        assert "answers 401" in capsys.readouterr().err
        monkeypatch.setenv("CLICKSCALE_TOKEN", "secret")
        assert main(arguments) == 0
        assert "0 beyond 1e-05" in capsys.readouterr().err
        assert main([*arguments, "--store", "lmdb:///nowhere"]) == 2
        assert "leave --store out" in capsys.readouterr().err
    with pytest.raises(StoreError, match="does not answer"):
        ServerTarget(url).append([])
    with pytest.raises(ConfigError, match="is no server"):
        ServerTarget("localhost:8000")


class _Swapping(ServerTarget):
    """Promotes another version in the middle of a replay."""

    def __init__(self, url: str, at: int) -> None:
        super().__init__(url, TOKEN)
        self._at = at

    def rank(self, request: Any) -> Any:
        if sum(self.versions.values()) == self._at:
            self._post("/v1/admin/promote", {"version": "v2"})
        return super().rank(request)


def test_a_real_server_answers_as_evaluated_before_and_after_a_swap(
    served: tuple[Path, Path], tmp_path: Path
) -> None:
    artifact, dataset = load_artifact(served[0]), open_dataset(served[1])
    for promote in (True, False):
        publish(served[0], tmp_path / "models", promote=promote)
    store = open_store("memory://", Reading.of(artifact))
    load_dataset(store, dataset, moment_of(dataset, "test"))
    (tmp_path / "tokens").write_text(f"replay rank,events,admin {TOKEN}\n", "utf-8")
    with live(
        tmp_path / "models",
        access=load_access(tmp_path / "tokens"),
        cache=StateCache(CacheConfig(admit_after=1)),
        store_of=lambda artifact: store.for_model(Reading.of(artifact)),
    ) as here:
        target = _Swapping(f"http://127.0.0.1:{here.target.port}", 15)
        report = replay_check(artifact, dataset, target, moment_of(dataset, "test"))
        target.close()
        assert report.is_equal
        assert report.scored == len(dataset.part("test"))
        assert target.versions["v1"] == 15
        assert target.versions["v2"] == report.requests - 15 > 10
        assert target.states["append"] > 0


def test_a_server_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    target = ServerTarget("http://127.0.0.1:1")
    answers = [(429, b"", 0.01), (408, b"", 0.01), (200, b'{"model": "v1", "scores": {"click": [0.5]}}', 1.0)]
    monkeypatch.setattr(target, "_ask", lambda path, data: answers.pop(0))
    assert target.rank({"user": 1, "time": 1, "candidates": []}) == {"click": [0.5]}
    assert answers == []
    monkeypatch.setattr(target, "_ask", lambda path, data: (429, b"busy", 60.0))
    with pytest.raises(StoreError, match="answers 429: busy"):
        target.rank({"user": 1, "time": 1, "candidates": []})


def test_a_store_that_fails_ends_a_replay(served: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    target = ServerTarget("http://127.0.0.1:1")
    answer = {"model": "v1", "scores": {"click": [0.5]}, "degraded": ["store"]}
    monkeypatch.setattr(target, "_post", lambda path, body: answer)
    with pytest.raises(StoreError, match="failed during the replay"):
        target.rank({"user": 1, "time": 1, "candidates": []})


def test_a_run_is_found_with_its_data_set(served: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(served[0], tmp_path / "artifact")
    assert artifact_of(tmp_path, Path("data")) == (tmp_path / "artifact", Path("data"))
