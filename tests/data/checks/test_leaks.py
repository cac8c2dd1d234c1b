import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.checks.leaks import _recompute, leak_check
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.source import Split
from clickscale.features import column_of
from clickscale.schema import Field, Label, Schema, Statistic
from tests.data.resealed import reseal
from tests.data.tiny import (
    DAY,
    START,
    STATISTICS,
    source_of,
    tiny_dataset,
    tiny_schema,
    tiny_source,
    tiny_tables,
)
from tests.inference.test_statistic_counters import DRAWN, drawn_data

EVERY_KIND = (
    *STATISTICS,
    Statistic(name="slot_rate", by=("position", "gender"), label="like", prior=0.0),
    Statistic(name="genre_lift", by=("user", "genre"), of="lift", prior=3.0, window=9 * DAY),
    Statistic(name="genre_count", by=("genre",), of="count", window=5 * DAY),
    Statistic(name="genre_recency", by=("user", "genre"), of="recency", window=9 * DAY),
    Statistic(name="after_rate", by=("newest.genre", "genre")),
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A tiny log whose impressions are behaviors too, as in MovieLens."""
    tables = tiny_tables(impressions=300)
    events = [
        {name: row[name] for name in ("user", "item", "time")}
        | {"action": "view", "dwell": 1.0 + row["label.click"]}
        for row in tables["impressions"]
    ]
    tables["behaviors"] += events
    return tiny_dataset(
        tmp_path_factory.mktemp("leak"), source_of(tiny_schema(statistics=EVERY_KIND), tables)
    )


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """The clean data set, to be spoiled."""
    return Path(shutil.copytree(clean, tmp_path / "copy"))


def spoil(folder: Path, name: str, change) -> None:
    path = folder / f"{name}.npy"
    column = np.load(path)
    change(column)
    np.save(path, column)
    reseal(folder)


def codes(folder: Path, **options) -> set[str]:
    report = leak_check(folder, **options)
    found = {finding.code for finding in report.findings if finding.severity == "error"}
    assert report.ok == (not found)
    return found


def test_a_clean_data_set_has_no_leak(clean):
    report = leak_check(clean, sample=300)
    assert report.ok
    assert report.findings == ()
    rows = len(open_dataset(clean).impressions["time"])
    assert report.checked["visible_future"] == rows
    assert report.checked["statistic"] == len(EVERY_KIND) * rows


def test_feedback_known_later_is_no_leak(tmp_path):
    folder = tiny_dataset(tmp_path, tiny_source(known_at=True, statistics=STATISTICS))
    assert leak_check(folder).ok


@pytest.mark.parametrize("kind", ["day", "user_time"])
def test_every_kind_of_split_is_clean(tmp_path, kind):
    days = Split(kind="day", valid=3, test=3) if kind == "day" else Split(kind="user_time")
    assert leak_check(tiny_dataset(tmp_path, tiny_source(statistics=STATISTICS, split=days))).ok


def test_one_impression_that_sees_one_behavior_too_many_is_found(copy):
    data = open_dataset(copy)
    count = np.diff(data.users["offsets"])[data.impressions["user"]]
    row = int(np.flatnonzero(data.impressions["visible"] < count)[7])
    spoil(copy, "impressions/visible", lambda visible: np.add.at(visible, row, 1))
    report = leak_check(copy)
    (finding,) = [finding for finding in report.findings if finding.code == "visible_future"]
    assert not report.ok
    assert (finding.count, finding.rows) == (1, (row,))


def test_an_impression_that_sees_its_own_event_is_found(copy):
    data = open_dataset(copy)
    # the first behavior that an impression does not see may be its own event
    place = data.users["offsets"][data.impressions["user"]] + data.impressions["visible"]
    own = np.flatnonzero(
        (
            data.behaviors["item"][np.minimum(place, len(data.behaviors["item"]) - 1)]
            == data.impressions["item"]
        )
        & (
            data.behaviors["time"][np.minimum(place, len(data.behaviors["item"]) - 1)]
            == data.impressions["time"]
        )
    )
    spoil(copy, "impressions/visible", lambda visible: np.add.at(visible, own[:3], 1))
    (finding,) = [finding for finding in leak_check(copy).findings if finding.code == "own_event"]
    assert finding.rows == tuple(own[:3].tolist())


def test_an_impression_that_misses_a_behavior_is_found(copy):
    row = int(np.flatnonzero(open_dataset(copy).impressions["visible"] > 0)[0])
    spoil(copy, "impressions/visible", lambda visible: np.subtract.at(visible, row, 1))
    assert codes(copy) == {"visible_incomplete"}


@pytest.mark.parametrize("value", [-1, 10_000])
def test_an_impossible_count_is_found(copy, value):
    spoil(copy, "impressions/visible", lambda visible: visible.__setitem__(4, value))
    assert "visible_range" in codes(copy)


def test_a_behavior_moved_into_the_future_is_found(copy):
    def move(time):
        time[20] += 40 * DAY

    spoil(copy, "behaviors/time", move)
    assert {"timeline_order", "visible_future"} & codes(copy)


def test_a_behavior_known_before_it_happened_is_found(tmp_path):
    folder = tiny_dataset(tmp_path, tiny_source(known_at=True))
    time = np.load(folder / "behaviors/time.npy")
    spoil(folder, "behaviors/known_at", lambda known: known.__setitem__(3, time[3] - 1))
    assert "known_before_event" in codes(folder)


def test_a_statistic_that_counts_its_own_row_is_found(copy):
    data = open_dataset(copy)
    name = "item_rate"
    scale = data.encoder.scales[name]
    click = np.load(copy / "impressions/label.click.npy")
    spoil(
        copy, f"impressions/field.{name}", lambda rate: np.add(rate, (click - 0.4) / 25 / scale.std, out=rate)
    )
    (finding,) = leak_check(copy, sample=50).findings
    assert (finding.code, finding.count) == ("statistic", 50)
    assert name in finding.message


def test_a_newest_positive_that_is_the_impression_itself_is_found(copy):
    def change(newest):
        newest[40:200] = np.load(copy / "impressions/item.npy")[40:200]

    spoil(copy, "impressions/newest", change)
    assert "newest_positive" in {finding.code for finding in leak_check(copy).findings}


def test_a_count_that_is_one_too_large_is_found(copy):
    data = open_dataset(copy)
    rows = np.arange(len(data.impressions["time"]))
    (statistic,) = [one for one in EVERY_KIND if one.name == "item_count"]
    own = _recompute(data, statistic, rows) + 1
    scale = data.encoder.scales["item_count"]
    spoil(
        copy, "impressions/field.item_count", lambda c: np.copyto(c, (np.log1p(own) - scale.mean) / scale.std)
    )
    assert codes(copy) == {"statistic"}


def test_an_item_shown_before_it_existed_is_found(copy):
    spoil(copy, "items/first_seen", lambda first: first.__setitem__(slice(2, None), START + 10 * DAY))
    assert codes(copy) == {"item_not_yet_there"}


def test_statistics_of_positives_are_recomputed_by_their_definition(tmp_path):
    data, _ = drawn_data(tmp_path)
    report = leak_check(data.path, sample=40)
    assert report.ok
    assert report.checked["statistic"] == len(DRAWN) * 40
    for name in ("item_count", "user_genre_share"):
        copy = tmp_path / name
        shutil.copytree(data.path, copy)
        spoil(copy, f"impressions/{column_of(name)}", lambda values: np.negative(values, out=values))
        assert [finding.code for finding in leak_check(copy).findings] == ["statistic"]


def test_a_negative_of_the_second_in_which_its_item_appeared_is_found(tmp_path):
    tables = tiny_tables()
    tables["impressions"] = [{**row, "label.click": 1} for row in tables["impressions"]]
    schema = Schema(
        name="positives",
        user=Field(name="user_id", column="user", dtype="int"),
        item=Field(name="item_id", column="item", dtype="int"),
        labels=(Label(name="click"),),
    )
    rows = [
        {name: row[name] for name in ("user", "item", "time", "label.click")} for row in tables["impressions"]
    ]
    events = [{name: row[name] for name in ("user", "item", "time")} for row in tables["behaviors"]]
    folder = tiny_dataset(
        tmp_path, source_of(schema, {"behaviors": events, "impressions": rows}, negatives=2)
    )
    data = open_dataset(folder)
    assert leak_check(folder).ok
    row = int(np.flatnonzero(data.impressions["label.click"] == 0)[0])
    item, time = int(data.impressions["item"][row]), int(data.impressions["time"][row])
    spoil(folder, "items/first_seen", lambda first: first.__setitem__(item, time))
    report = leak_check(folder)
    assert row in next(finding.rows for finding in report.findings if finding.code == "item_not_yet_there")


def test_parts_that_overlap_in_time_are_found(clean):
    class Overlapping(Dataset):
        def parts(self):
            return np.arange(len(self.impressions["time"]), dtype=np.uint8) % 3

    report = leak_check(Overlapping(clean))
    assert {finding.code for finding in report.findings if finding.severity == "error"} == {"part_order"}


def test_rows_under_the_wrong_user_are_found(copy):
    spoil(copy, "impressions/user", lambda user: user.__setitem__(0, user[-1]))
    assert "offsets" in codes(copy, sample=0)


@pytest.mark.parametrize("table", ["behaviors", "impressions"])
def test_an_item_outside_the_item_table_is_found(copy, table):
    spoil(copy, f"{table}/item", lambda item: item.__setitem__(5, 999))
    (finding,) = [finding for finding in leak_check(copy).findings if finding.code == "item_range"]
    assert finding.rows == (5,)
    assert table in finding.message


def test_broken_offsets_are_found(copy):
    spoil(copy, "users/offsets", lambda offsets: offsets.__setitem__(slice(2, 4), offsets[[3, 2]]))
    assert "offsets" in codes(copy, sample=0)


def test_a_report_is_plain_values(copy):
    spoil(copy, "impressions/visible", lambda visible: visible.__setitem__(4, -1))
    tree = json.loads(json.dumps(leak_check(copy).to_dict()))
    assert tree["ok"] is False
    assert tree["findings"][0]["code"] == "visible_range"
    assert tree["findings"][0]["rows"] == [4]
