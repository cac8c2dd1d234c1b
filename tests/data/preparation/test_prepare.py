"""What a prepared data set holds, against a plain restatement in Python loops."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.layout import TableReport
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Split, TableName
from clickscale.errors import ConfigError, DataError, InputError
from clickscale.schema import Field
from tests.data.tiny import DAY, START, STATISTICS, source_of, tiny_schema, tiny_source, tiny_tables

Tables = dict[TableName, list[dict[str, Any]]]


def prepared(tables: Tables, out: Path, split: Split | None = None, dtype: str = "int") -> Dataset:
    prepare(source_of(tiny_schema(dtype=dtype), tables, split=split), out, memory_rows=8)
    return open_dataset(out)


def ids(dataset: Dataset, table: str, dtype: str) -> list[Any]:
    columns = dataset.users if table == "users" else dataset.items
    if dtype == "int":
        return list(columns["ids"].tolist())
    data, ends = columns["ids.bytes"].tobytes(), columns["ids.ends"].tolist()
    return [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]


def of(user: Any, rows: list[dict[str, Any]], clock: str) -> list[dict[str, Any]]:
    """The rows of a user in the order of their times."""
    return sorted((row for row in rows if row["user"] == user), key=lambda row: row[clock])


@pytest.mark.parametrize("dtype", ["int", "string"])
@pytest.mark.parametrize("known_at", [False, True])
def test_timelines_and_what_impressions_see(tmp_path: Path, dtype: str, known_at: bool) -> None:
    tables = tiny_tables(known_at=known_at, string_ids=dtype == "string")
    for rows in tables.values():
        rows.reverse()  # the order of the log must not matter
    dataset = prepared(tables, tmp_path / "out", dtype=dtype)
    users, items = ids(dataset, "users", dtype), ids(dataset, "items", dtype)
    events = tables["impressions"] + tables["behaviors"]
    assert users == sorted({row["user"] for row in events})
    assert items[2:] == sorted({row["item"] for row in events + tables["items"]})
    clock = "known_at" if known_at else "time"
    for place, user in enumerate(users):
        past, shown = of(user, tables["behaviors"], clock), of(user, tables["impressions"], "time")
        mine = slice(*dataset.users["offsets"][place : place + 2].tolist())
        assert dataset.behaviors["time"][mine].tolist() == [row["time"] for row in past]
        assert dataset.known_at[mine].tolist() == [row[clock] for row in past]
        assert [items[item] for item in dataset.behaviors["item"][mine]] == [row["item"] for row in past]
        mine = slice(*dataset.users["impressions"][place : place + 2].tolist())
        assert set(dataset.impressions["user"][mine].tolist()) <= {place}
        assert dataset.impressions["time"][mine].tolist() == [row["time"] for row in shown]
        assert [items[item] for item in dataset.impressions["item"][mine]] == [row["item"] for row in shown]
        seen = [sum(row[clock] < asking["time"] for row in past) for asking in shown]
        assert dataset.impressions["visible"][mine].tolist() == seen
        assert dataset.impressions["label.click"][mine].tolist() == [row["label.click"] for row in shown]
        likes = [-1 if row["label.like"] is None else row["label.like"] for row in shown]
        assert dataset.impressions["label.like"][mine].tolist() == likes


def test_a_behavior_of_the_same_second_is_not_visible(tmp_path: Path) -> None:
    tables = tiny_tables(behaviors=0)
    moment = tables["impressions"][5]["time"]
    user = tables["impressions"][5]["user"]
    base = {"user": user, "item": 10, "action": "view", "dwell": 1.0}
    tables["behaviors"] = [base | {"time": moment + shift} for shift in (-2, -1, 0, 1)]
    dataset = prepared(tables, tmp_path / "out")
    row = np.flatnonzero(dataset.impressions["time"] == moment)[0]
    assert dataset.impressions["visible"][row] == 2


def test_what_is_known_later_is_seen_later(tmp_path: Path) -> None:
    tables = tiny_tables(behaviors=0)
    shown = tables["impressions"][-1]
    base = {"user": shown["user"], "item": 10, "action": "view", "dwell": 1.0}
    moment = shown["time"]
    told = {-100: -1, -90: 0, -80: -79, -70: None}  # seconds before the impression: happened, known
    tables["behaviors"] = [
        base | {"time": moment + at, "known_at": None if known is None else moment + known}
        for at, known in told.items()
    ]
    dataset = prepared(tables, tmp_path / "out")
    row = np.flatnonzero(dataset.impressions["time"] == moment)[0]
    assert dataset.impressions["visible"][row] == 3
    assert (dataset.behaviors["time"] - moment).tolist() == [-80, -70, -100, -90]
    assert (dataset.behaviors["known_at"] - moment).tolist() == [-79, -70, -1, 0]


def test_indices_and_scales_come_from_the_training_part_alone(tmp_path: Path) -> None:
    tables = tiny_tables()
    late = max(row["time"] for row in tables["impressions"]) + 1
    tables["impressions"][0] |= {"position": 77, "hour": 1e6, "time": late}  # a value that only test has
    tables["behaviors"][0] |= {"action": "late", "time": late - 1}
    dataset = prepared(tables, tmp_path / "out")
    bound = dataset.boundaries[0]
    shown = [row for row in tables["impressions"] if row["time"] < bound]
    past = [row for row in tables["behaviors"] if row["time"] < bound]
    vocabularies = dataset.encoder.vocabularies
    assert vocabularies["position"].values.to_pylist() == sorted({row["position"] for row in shown})
    assert vocabularies["action"].values.to_pylist() == sorted({row["action"] for row in past})
    assert dataset.impressions["field.position"][dataset.impressions["time"] == late].tolist()[0] == 1
    for name, numbers in (
        ("hour", [row["hour"] for row in shown]),
        ("dwell", [math.log1p(row["dwell"]) for row in past]),
    ):
        scale = dataset.encoder.scales[name]
        assert (scale.mean, scale.std) == pytest.approx((np.mean(numbers), np.std(numbers)))
    hours = {(row["user"] - 100, row["time"]): row["hour"] for row in tables["impressions"]}
    scale = dataset.encoder.scales["hour"]
    keys = zip(dataset.impressions["user"].tolist(), dataset.impressions["time"].tolist(), strict=True)
    expected = [min((hours[key] - scale.mean) / scale.std, 10) for key in keys]  # 1e6 is cut off
    np.testing.assert_allclose(dataset.impressions["field.hour"], expected, rtol=1e-5)


def test_rare_values_are_unknown(tmp_path: Path) -> None:
    tables = tiny_tables()
    schema = msgspec.structs.replace(
        tiny_schema(),
        item=Field(name="item_id", dtype="int", min_count=12),
        context=(Field(name="position", dtype="int", min_count=25), Field(name="hour", kind="numeric")),
    )
    prepare(source_of(schema, tables), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    events = [row for row in tables["impressions"] if row["time"] < dataset.boundaries[0]]
    positions = [row["position"] for row in events]
    frequent = [value for value in range(4) if positions.count(value) >= 25]
    assert 0 < len(frequent) < 4
    assert dataset.encoder.vocabularies["position"].values.to_pylist() == frequent
    events += [row for row in tables["behaviors"] if row["time"] < dataset.boundaries[0]]
    items = [row["item"] for row in events]
    frequent = [10 * (item + 1) for item in range(12) if items.count(10 * (item + 1)) >= 12]
    assert 0 < len(frequent) < 12
    assert dataset.encoder.vocabularies["item_id"].values.to_pylist() == frequent
    assert len(dataset.items["ids"]) == 14  # the item table has them all


def test_the_item_table_has_rows_for_padding_and_unknown(tmp_path: Path) -> None:
    dataset = prepared(tiny_tables(), tmp_path / "out")
    items = dataset.items
    assert items["ids"].tolist() == [-1, -1, *range(10, 130, 10)]
    assert items["field.item_id"].tolist() == list(range(14))
    words = {value: place + 2 for place, value in enumerate(["comedy", "drama", "war"])}
    genres = [[], [], ["drama"], ["comedy"], ["war"], ["drama", "war"], ["comedy", "drama", "war"], []]
    expected = [([words[genre] for genre in row] or [1]) + [0] * (3 - max(1, len(row))) for row in genres]
    expected[0] = [0, 0, 0]
    assert items["field.genre"][:8].tolist() == expected
    assert items["field.genre"][13].tolist() == [1, 0, 0]  # the last item has no row of attributes
    assert np.isnan(items["field.price"][[0, 1, 2, 13]]).all()
    assert items["field.text"][[0, 1, 4, 13]].tolist() == [[0.0] * 4] * 4
    assert items["field.text"][5].tolist() == [3.0, 1.0, -0.5, 0.25]
    assert items["first_seen"][:2].tolist() == [-1, -1]


def test_users_without_profile_or_behaviors_are_kept(tmp_path: Path) -> None:
    dataset = prepared(tiny_tables(), tmp_path / "out")
    assert dataset.users["offsets"][:2].tolist() == [0, 0]  # user 100 has no behaviors
    assert dataset.impressions["visible"][dataset.impressions["user"] == 0].tolist() == [0] * 13
    assert dataset.users["field.gender"].tolist() == [2, 3, 2, 3, 2, 3, 2, 1]
    assert np.isnan(dataset.users["field.age"]).tolist() == [False, True, *[False] * 5, True]


def test_a_log_of_impressions_alone_can_be_prepared(tmp_path: Path) -> None:
    dataset = prepared({"impressions": tiny_tables()["impressions"]}, tmp_path / "out")
    assert dataset.manifest.counts == {"users": 8, "items": 14, "behaviors": 0, "impressions": 120}
    assert not dataset.impressions["visible"].any()
    assert len(dataset.behaviors["time"]) == 0
    assert dataset.encoder.vocabularies["genre"].size == 2


def test_ids_that_only_a_shared_field_holds_make_no_rows(tmp_path: Path) -> None:
    tables = tiny_tables(string_ids=True)
    schema = tiny_schema(dtype="string")
    for row in tables["impressions"]:
        row["position"] = row["item"] if row["position"] else "phantom"
    fields = (Field(name="position", shares="item_id"), Field(name="hour", kind="numeric"))
    schema = msgspec.structs.replace(schema, context=fields)
    prepare(source_of(schema, tables), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.manifest.counts["items"] == 14
    vocabulary = dataset.encoder.vocabulary("position")
    assert vocabulary is dataset.encoder.vocabulary("item_id")
    assert "phantom" in vocabulary.values.to_pylist()
    index = vocabulary.values.to_pylist().index("phantom") + 2
    position, item = dataset.impressions["field.position"], dataset.impressions["item"]
    assert ((position == index) | (position == dataset.items["field.item_id"][item])).all()
    assert 0 < (position == index).sum() < 120


@pytest.mark.parametrize("kind", ["time", "user_time", "day"])
def test_parts_are_ordered_and_complete(tmp_path: Path, kind: Any) -> None:
    split = Split(kind=kind, valid=3, test=3) if kind == "day" else Split(kind=kind, valid=0.2, test=0.2)
    dataset = prepared(tiny_tables(), tmp_path / "out", split)
    time, user = dataset.impressions["time"], dataset.impressions["user"]
    parts = [dataset.part(name) for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 120
    assert all(len(part) > 10 for part in parts)
    if kind == "user_time":
        for someone in range(8):
            last = [time[part[user[part] == someone]] for part in parts]
            assert last[0].max() < last[1].min()
            assert last[1].max() < last[2].min()
    else:
        assert time[parts[0]].max() < time[parts[1]].min()
        assert time[parts[1]].max() < time[parts[2]].min()
    if kind == "day":
        assert all(bound % DAY == 0 for bound in dataset.boundaries)


def test_statistics_are_standardized_over_the_training_part(tmp_path: Path) -> None:
    prepare(tiny_source(statistics=STATISTICS), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    train = dataset.part("train")
    for statistic in STATISTICS:
        column = dataset.impressions[f"field.{statistic.name}"]
        assert column.dtype == np.float32
        assert column[train].mean() == pytest.approx(0.0, abs=1e-5)
        assert column[train].std() == pytest.approx(1.0, abs=1e-5)
    item, time = dataset.impressions["item"], dataset.impressions["time"]
    counts = [int(((item == item[row]) & (time < time[row])).sum()) for row in range(120)]
    expected = dataset.encoder.encode_field("item_count", pa.array(counts))
    np.testing.assert_allclose(dataset.impressions["field.item_count"], expected, atol=1e-5)


def test_every_stored_index_is_what_the_encoder_gives_for_the_raw_value(tmp_path: Path) -> None:
    tables = tiny_tables()
    dataset = prepared(tables, tmp_path / "out")
    shown = sorted(tables["impressions"], key=lambda row: (row["user"], row["time"]))
    past = sorted(tables["behaviors"], key=lambda row: (row["user"], row["time"]))
    for columns, rows, names in (
        (dataset.impressions, shown, ("position", "hour")),
        (dataset.behaviors, past, ("action", "dwell")),
    ):
        for name in names:
            again = dataset.encoder.encode_field(name, pa.array([row[name] for row in rows]))
            np.testing.assert_array_equal(columns[f"field.{name}"], again)
    assert (
        dataset.impressions["item"].tolist()
        == dataset.encoder.encode_items(pa.array([row["item"] for row in shown])).tolist()
    )


def test_the_manifest_tells_everything(tmp_path: Path) -> None:
    stages: list[tuple[str, int, int | None]] = []
    out = tmp_path / "out"
    manifest = prepare(tiny_source(statistics=STATISTICS), out, progress=lambda *at: stages.append(at))
    dataset = open_dataset(out)
    dataset.verify()
    assert dataset.manifest == manifest
    assert manifest.counts == {"users": 8, "items": 14, "behaviors": 90, "impressions": 120}
    rows = {"users": 7, "items": 11, "behaviors": 90, "impressions": 120}
    assert manifest.report == {name: TableReport(rows=count, kept=count) for name, count in rows.items()}
    on_disk = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert on_disk == {*manifest.files, "manifest.json"}
    assert json.loads((out / "manifest.json").read_text())["boundaries"] == list(manifest.boundaries)
    assert list(dict.fromkeys(stage for stage, _, _ in stages)) == ["read", "sort", "encode", "statistics"]
    last = {stage: (done, total) for stage, done, total in stages}
    assert last["read"] == (228, None)
    assert last["sort"] == (210, 210)
    assert all(done == total for stage, (done, total) in last.items() if stage != "read")


def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"]:
        row["postion"] = row.pop("position")
    with pytest.raises(InputError, match=r"'impressions' lacks .*'position'; did you mean 'postion'"):
        prepared(tables, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_nobody_knows_is_named(tmp_path: Path) -> None:
    tables: Any = tiny_tables() | {"impresions": [{"user": 1}]}
    with pytest.raises(InputError, match="did you mean 'impressions'"):
        prepared(tables, tmp_path / "out")


def test_a_log_without_impressions_is_refused(tmp_path: Path) -> None:
    tables = tiny_tables()
    for shown in ([], None):
        tables = {name: rows for name, rows in tables.items() if name != "impressions"}
        if shown is not None:
            tables["impressions"] = shown
        with pytest.raises(DataError, match="no impressions"):
            prepared(tables, tmp_path / "out")


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"]:
        row["time"] = START
    with pytest.raises(DataError, match="no impression for training"):
        prepared(tables, tmp_path / "out")
    with pytest.raises(ConfigError, match="whole days"):
        prepared(tiny_tables(), tmp_path / "out", Split(kind="day"))
    assert list(tmp_path.iterdir()) == []
