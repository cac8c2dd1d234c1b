import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.artifact import Artifact, load_artifact
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import DamagedError, DataError, InputError
from clickscale.features import column_of, label_of
from clickscale.inference.counter_export import _moment_of, export_counters
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.inference.statistic_counters import StatisticCounters
from clickscale.schema import Field, Label, Schema, Statistic
from tests.data.tiny import DAY, source_of, tiny_schema, tiny_tables
from tests.trained import tiny_artifact

STATISTICS = (
    Statistic(name="item_rate", by=("item",), window=3 * DAY),
    Statistic(name="item_count", by=("item",), of="count"),
    Statistic(name="recent_count", by=("item_id",), of="count", window=5 * DAY),
    Statistic(name="user_rate", by=("user",), prior=0.0),
    Statistic(name="like_rate", by=("genre",), label="like"),
    Statistic(name="user_genre_rate", by=("user", "genre"), prior=2.0),
    Statistic(name="user_lift", by=("user",), of="lift"),
    Statistic(name="gender_lift", by=("gender", "genre"), of="lift", window=7 * DAY, prior=3.0),
    Statistic(name="position_count", by=("position", "user_id"), of="count"),
    Statistic(name="hour_rate", by=("hour_of_day", "genre"), window=9 * DAY),
    Statistic(name="user_hour_count", by=("user", "hour_of_day"), of="count"),
    Statistic(name="user_recency", by=("user",), of="recency", window=4 * DAY),
    Statistic(name="genre_recency", by=("user", "genre"), of="recency", label="like", window=20 * DAY),
    Statistic(name="after_item_rate", by=("newest.item", "item"), prior=1.0),
    Statistic(name="after_genre_lift", by=("newest.genre", "genre"), of="lift", window=8 * DAY),
    Statistic(name="after_item_share", by=("newest.item", "item"), of="share", prior=1.0),
    Statistic(name="after_count", by=("gender", "newest.item_id"), of="count"),
    Statistic(name="after_like_recency", by=("newest.genre",), of="recency", label="like", window=9 * DAY),
    Statistic(name="item_share", by=("item",), of="share", label="like"),
    Statistic(name="late_item_share", by=("item",), of="share", window=6 * DAY, prior=9.0),
    Statistic(name="user_genre_share", by=("user", "genre"), of="share", window=9 * DAY, prior=2.0),
    Statistic(name="genre_position_share", by=("genre", "gender", "position"), of="share"),
)
DRAWN = tuple(one for one in STATISTICS if one.of not in ("rate", "lift"))


def schema_with(
    delay: int, string_ids: bool = False, statistics: tuple[Statistic, ...] = STATISTICS
) -> Schema:
    schema = tiny_schema(dtype="string" if string_ids else "int", statistics=statistics)
    labels = (Label(name="click", column="click", delay=delay), Label(name="like", column="like"))
    return msgspec.structs.replace(schema, labels=labels)


def drawn_data(folder: Path, delay: int = 0) -> tuple[Dataset, list[dict[str, Any]]]:
    """A data set of clicks for which negatives were drawn, and all clicks of its log in the order of time."""
    tables = tiny_tables(impressions=300)
    clicks = [
        row | {"time": row["time"] - row["time"] % 7200}
        for row in tables["impressions"]
        if row["label.click"]
    ]
    distinct = {(row["user"], row["item"], row["time"]): row for row in clicks}
    tables["impressions"] = sorted(distinct.values(), key=lambda row: row["time"])
    prepare(source_of(schema_with(delay, statistics=DRAWN), tables, negatives=2), folder / "data")
    return open_dataset(folder / "data"), tables["impressions"]


def data_set(folder: Path, delay: int = 0, string_ids: bool = False, impressions: int = 400) -> Dataset:
    tables = tiny_tables(impressions=impressions, string_ids=string_ids)
    for row in tables["impressions"]:
        row["time"] -= row["time"] % 7200  # impressions of one second must not see each other
    prepare(source_of(schema_with(delay, string_ids), tables), folder / "data")
    return open_dataset(folder / "data")


def outcomes_of(dataset: Dataset, rows: np.ndarray) -> list[dict[str, int | None]]:
    labels = {name: dataset.impressions[label_of(name)][rows].tolist() for name in dataset.labels}
    return [
        {name: None if values[index] < 0 else values[index] for name, values in labels.items()}
        for index in range(len(rows))
    ]


def replayed(dataset: Dataset, since: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Rows and bare requests from a moment on, in the order of time."""
    time = dataset.impressions["time"]
    rows = np.flatnonzero(time >= since)
    rows = rows[np.argsort(time[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(dataset.impressions["user"][rows]) | np.diff(time[rows])) + 1
    names = [statistic.name for statistic in dataset.schema.statistics]
    for part in np.split(rows, cuts):
        (request,) = requests_from_dataset(dataset, part)
        for candidate in request["candidates"]:
            for name in names:
                del candidate[name]
        yield part, request


def stored(dataset: Dataset, rows: np.ndarray) -> dict[str, list[float]]:
    """Statistics of preparation, as models read them."""
    return {s.name: dataset.impressions[column_of(s.name)][rows].tolist() for s in dataset.schema.statistics}


def read_as_models_do(dataset: Dataset, request: dict[str, Any]) -> dict[str, list[float]]:
    """Statistics of a completed request, as models read them."""
    return {
        statistic.name: dataset.encoder.encode_raw(
            statistic.name, np.array([one[statistic.name] for one in request["candidates"]])
        ).tolist()
        for statistic in dataset.schema.statistics
    }


@pytest.mark.parametrize(("delay", "string_ids"), [(0, False), (5 * 3600, True), (9 * DAY, False)])
def test_continued_statistics_equal_those_of_preparation_to_the_bit(
    delay: int, string_ids: bool, tmp_path: Path
) -> None:
    dataset = data_set(tmp_path, delay, string_ids)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    head = export_counters(dataset, tmp_path / "counters.parquet", "test")
    assert head.moment == dataset.boundaries[1]
    counters = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
    seen = 0
    for rows, request in replayed(dataset, head.moment):
        completed = counters.complete(request)
        assert read_as_models_do(dataset, completed) == stored(dataset, rows)
        counters.add(request, outcomes_of(dataset, rows))
        if seen == 20:  # a restart of the client changes nothing
            counters.save(tmp_path / "counters.parquet")
            counters = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
        seen += len(rows)
    assert seen == len(dataset.part("test")) > 30


def test_scores_over_continued_statistics_are_the_evaluated_ones(tmp_path: Path) -> None:
    dataset = data_set(tmp_path)
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    head = export_counters(dataset, tmp_path / "counters.parquet", "test")
    counters = StatisticCounters.load(tmp_path / "counters.parquet", scorer.artifact)
    largest = without = 0.0
    for rows, request in replayed(dataset, head.moment):
        (offline,) = requests_from_dataset(dataset, rows)
        expected = scorer.score(offline).logits
        completed = scorer.score(counters.complete(request))
        assert completed.missing == ()
        largest = max(largest, float(np.abs(completed.logits - expected).max()))
        bare = scorer.score(request)
        assert bare.missing == tuple(statistic.name for statistic in STATISTICS)
        without = max(without, float(np.abs(bare.logits - expected).max()))
        counters.add(request, outcomes_of(dataset, rows))
    assert largest <= 1e-5
    assert without > 1e-2


def test_an_export_equals_counting_every_impression_of_the_log(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, delay=3 * DAY, impressions=150)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    counters = StatisticCounters(artifact.encoder, artifact.item_columns())
    for rows, request in replayed(dataset, 0):
        assert read_as_models_do(dataset, counters.complete(request)) == stored(dataset, rows)
        counters.add(request, outcomes_of(dataset, rows))
    counters.complete({**request, "time": _moment_of(dataset)})
    counters.save(tmp_path / "counted.parquet")
    export_counters(dataset, tmp_path / "exported.parquet")
    assert contributions(tmp_path / "counted.parquet") == contributions(tmp_path / "exported.parquet")


def test_an_export_of_a_log_of_positives_equals_counting_them_one_by_one(tmp_path: Path) -> None:
    dataset, clicks = drawn_data(tmp_path, delay=DAY)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    counters = StatisticCounters(artifact.encoder, artifact.item_columns())
    asked = {int(request["time"]): (rows, request) for rows, request in replayed(dataset, 0)}
    for row in clicks:
        shown = {name: row[name] for name in ("item", "position", "hour")}
        if found := asked.pop(row["time"], None):
            completed = counters.complete(found[1])
            assert read_as_models_do(dataset, completed) == stored(dataset, found[0])
        request = {"user": row["user"], "time": row["time"], "candidates": [shown]}
        profile = {"gender": "fm"[(row["user"] - 100) % 2]} if row["user"] < 107 else {}
        counters.add({**request, "profile": profile}, [{"click": 1, "like": row["label.like"]}])
    counters.complete({**request, "time": clicks[-1]["time"] + 1})
    counters.save(tmp_path / "counted.parquet")
    export_counters(dataset, tmp_path / "exported.parquet", str(clicks[-1]["time"] + 1))
    counted, exported = (contributions(tmp_path / f"{name}.parquet") for name in ("counted", "exported"))
    assert counted == exported


def contributions(path: Path) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Sums of a file by statistic, key and moment."""
    sums: dict[tuple[Any, ...], tuple[int, int]] = {}
    for row in pq.read_table(path).to_pylist():
        where = (row["statistic"], row["key"], row["time"], row["due"])
        count, total = sums.get(where, (0, 0))
        sums[where] = (count + row["count"], total + row["sum"])
    return sums


def test_outcomes_told_later_count_as_those_told_at_once(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, delay=5 * 3600, impressions=150)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    export_counters(dataset, tmp_path / "counters.parquet", "test")
    at_once = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
    later = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
    told: list[tuple[int, dict[str, int | None]]] = []
    for rows, request in replayed(dataset, at_once.moment):
        assert later.complete(request) == at_once.complete(request)
        outcomes = outcomes_of(dataset, rows)
        at_once.add(request, outcomes)
        likes = [{"like": one["like"]} for one in outcomes]  # only clicks take their time
        told += zip(later.add(request, likes), outcomes, strict=True)
        later.save(tmp_path / "later.parquet")
        later = StatisticCounters.load(tmp_path / "later.parquet", artifact)
        while told:
            number, outcome = told.pop()
            later.settle(number, "click", outcome["click"] or 0)
    with pytest.raises(InputError, match="not open"):
        later.settle(number, "click", 1)
    with pytest.raises(InputError, match="did you mean 'click'"):
        later.settle(number, "clack", 1)


def test_keys_are_raw_values_that_another_store_can_read(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, string_ids=True)
    export_counters(dataset, tmp_path / "counters.parquet")
    table = pq.read_table(tmp_path / "counters.parquet")
    keys = {
        name: {
            tuple(json.loads(key))
            for of, key in zip(*table.select([0, 1]).to_pydict().values(), strict=True)
            if of == name
        }
        for name in ("item_count", "user_genre_rate", "overall:click")
    }
    assert ("i10",) in keys["item_count"]
    assert {("u101", "drama"), ("u101", None)} <= keys["user_genre_rate"]
    assert keys["overall:click"] == {()}
    shown = [row for row in table.to_pylist() if row["statistic"] == "overall:click"]
    clicks = np.asarray(dataset.impressions["label.click"])
    assert (shown[0]["count"], shown[0]["sum"]) == (len(clicks), int(clicks.sum()))


def test_a_new_item_and_a_new_user_get_keys_of_their_own(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, string_ids=True)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    export_counters(dataset, tmp_path / "counters.parquet")
    counters = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
    now = counters.moment
    counters.add({"user": "new", "time": now, "candidates": [{"item": "a"}, {"item": "a"}, {"item": 7}]})
    (a, b, seven) = counters.complete(
        {"user": "new", "time": now + 1, "candidates": [{"item": "a"}, {"item": "b"}, {"item": 7.0}]}
    )["candidates"]
    assert [one["item_count"] for one in (a, b, seven)] == [2.0, 0.0, 1.0]


def test_a_hashed_field_is_counted_by_its_buckets(tmp_path: Path) -> None:
    schema = schema_with(0)
    hashed = Field(name="gender", vocabulary="hash", buckets=50)
    schema = msgspec.structs.replace(schema, profile=(hashed, schema.profile[1]))
    prepare(source_of(schema, tiny_tables()), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    export_counters(dataset, tmp_path / "counters.parquet")
    artifact = load_artifact(tiny_artifact(tmp_path, dataset))
    counters = StatisticCounters.load(tmp_path / "counters.parquet", artifact)
    request = {"user": 101, "time": counters.moment, "candidates": [{"item": 10}]}
    known = counters.complete({**request, "profile": {"gender": "m"}})["candidates"][0]["gender_lift"]
    assert known != counters.complete({**request, "profile": {"gender": "?"}})["candidates"][0]["gender_lift"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """An artifact and the counters of its log."""
    folder = tmp_path_factory.mktemp("exported")
    dataset = data_set(folder, impressions=60)
    export_counters(dataset, folder / "counters.parquet")
    return load_artifact(tiny_artifact(folder, dataset)), folder / "counters.parquet"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", "oops"),
        ("key", None),
        ("key", "[[7]]"),
        ("key", '["u1", 3, 4]'),
        ("count", None),
        ("count", -1),
        ("sum", None),
        ("time", None),
        ("time", 2**40),
    ],
)
def test_a_row_that_cannot_be_right_is_named(
    column: str, value: object, exported: tuple[Artifact, Path], tmp_path: Path
) -> None:
    artifact, counters = exported
    table = pq.read_table(counters)
    rows = table.to_pylist()
    last = max(place for place, row in enumerate(rows) if row["statistic"] == "user_recency")
    rows[last][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "counters.parquet")
    with pytest.raises(DamagedError, match="a row of 'user_recency' that cannot be right: key "):
        StatisticCounters.load(tmp_path / "counters.parquet", artifact)


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    dataset = data_set(tmp_path)
    artifact = tiny_artifact(tmp_path, dataset)
    path = tmp_path / "counters.parquet"
    export_counters(dataset, path)
    counters = StatisticCounters.load(path, artifact)
    request = {"user": 101, "time": counters.moment - 1, "candidates": [{"item": 10}]}
    with pytest.raises(InputError, match="in the order of their times"):
        counters.complete(request)
    with pytest.raises(InputError, match="2 outcomes for 1 candidates"):
        counters.add(request, [{}, {}])
    with pytest.raises(InputError, match="give 0 or 1"):
        counters.add(request, [{"click": 2}])
    with pytest.raises(InputError, match="clickscale statistics export"):
        StatisticCounters.load(tmp_path / "none.parquet", artifact)
    pq.write_table(pq.read_table(path).select(["key"]), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no file of counters"):
        StatisticCounters.load(tmp_path / "other.parquet", artifact)
    plain = tmp_path / "plain"
    prepare(source_of(tiny_schema(), tiny_tables()), plain / "data")
    with pytest.raises(DataError, match="declares no statistics"):
        export_counters(open_dataset(plain / "data"), path)
    with pytest.raises(DataError, match="other statistics"):
        StatisticCounters.load(path, tiny_artifact(plain, open_dataset(plain / "data")))
    with pytest.raises(DataError, match="no moment"):
        _moment_of(dataset, "tset")
