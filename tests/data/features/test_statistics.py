import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from clickscale.data.features.counts_in_memory import counts_before, newest_before, sums_before
from clickscale.data.features.statistics import ImpressionLog, write_statistics
from clickscale.errors import DataError, SchemaError
from clickscale.schema import Field, Label, Schema, Statistic
from tests.everyday import thinned

DAY = 86_400


def by_hand(key, time, label, delay, window):
    """Rows, known labels and positives, one row after the other."""
    found = []
    for k, t in zip(key, time, strict=True):
        seen = (key == k) & (time < t) & ((time >= t - window) if window else True)
        known = seen & (label >= 0) & (time + delay < t)
        found.append((seen.sum(), known.sum(), (known & (label == 1)).sum()))
    return np.array(found).reshape(-1, 3)


def schema_of(*statistics: Statistic, delay: int = 0) -> Schema:
    return Schema(
        name="small",
        user=Field(name="user_id"),
        item=Field(name="item_id"),
        labels=(Label(name="click", delay=delay), Label(name="buy")),
        profile=(Field(name="city"), Field(name="age", kind="numeric")),
        items=(Field(name="genre", values=3),),
        context=(Field(name="slot"),),
        statistics=statistics,
    )


def write_log(
    folder: Path, rows: int = 400, users: int = 7, items: int = 9, seed: int = 0
) -> dict[str, np.ndarray]:
    """The columns from which statistics are made, in the layout of a prepared data set."""
    random = np.random.default_rng(seed)
    genre = random.integers(2, 6, (items, 3)).astype(np.int32)
    genre[2] = (1, 0, 0)  # unknown
    genre[3] = (4, 4, 5)  # the same value twice counts once
    genre[4] = (3, 0, 0)
    genre[:2] = 0
    user = np.sort(random.integers(0, users, rows)).astype(np.int32)
    columns = {
        "users/offsets": np.zeros(users + 1, np.int64),
        "users/field.city": random.integers(1, 4, users).astype(np.int32),
        "users/field.age": random.normal(size=users).astype(np.float32),
        "items/first_seen": np.zeros(items, np.int64),
        "items/field.genre": genre,
        "impressions/user": user,
        "impressions/item": random.integers(2, items, rows).astype(np.int32),
        "impressions/time": 1_600_000_000 + random.integers(0, 60, rows).astype(np.int64) * 3600,
        "impressions/field.slot": random.integers(1, 4, rows).astype(np.int32),
        "impressions/label.click": random.integers(-1, 2, rows).astype(np.int8),
        "impressions/label.buy": random.integers(0, 2, rows).astype(np.int8),
    }
    for name, column in columns.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, column)
    return columns


def test_an_item_is_counted_up_to_the_second_before():
    key = np.array([5, 5, 7, 5, 5])
    time = np.array([10, 20, 20, 20, 30])
    label = np.array([1, 0, 1, -1, 1])
    found = counts_before(key, time, label)
    assert found.rows.tolist() == [0, 1, 0, 1, 3]
    assert found.known.tolist() == [0, 1, 0, 1, 2]
    assert found.positives.tolist() == [0, 1, 0, 1, 1]


def test_a_window_begins_exactly_its_seconds_ago():
    time = np.array([0, 1, 10, 11])
    found = counts_before(np.zeros(4, int), time, np.ones(4, int), window=10)
    assert found.rows.tolist() == [0, 1, 2, 2]  # 0 is seen from 10 and no more from 11


def test_a_label_counts_strictly_after_its_delay():
    time = np.array([0, 5, 6, 20])
    found = counts_before(np.zeros(4, int), time, np.array([1, 1, 0, 0]), delay=5)
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.known.tolist() == [0, 0, 1, 3]
    assert found.positives.tolist() == [0, 0, 1, 2]


def test_a_window_shorter_than_the_delay_knows_no_label():
    found = counts_before(np.zeros(3, int), np.array([0, 5, 20]), np.ones(3, int), delay=30, window=10)
    assert found.rows.tolist() == [0, 1, 0]
    assert found.known.tolist() == [0, 0, 0]


def test_no_rows_have_no_counts():
    assert counts_before(np.zeros(0, int), np.zeros(0, int)).rows.shape == (0,)


def test_keys_of_any_size_are_told_apart():
    key = np.array([2**62, -(2**62), 2**62, 2**62 - 1])
    found = counts_before(key, np.array([0, 0, 2**31, 2**31]))
    assert found.rows.tolist() == [0, 0, 1, 0]


def test_times_beyond_all_reason_are_refused():
    with pytest.raises(DataError, match="63 bits"):
        counts_before(np.arange(9), np.array([0, 2**62] + [1] * 7))


@st.composite
def logs(draw: st.DrawFn):
    rows = draw(st.integers(1, 40))

    def numbers(low, high):
        return np.array(draw(st.lists(st.integers(low, high), min_size=rows, max_size=rows)))

    return numbers(-2, 3), numbers(0, 30), numbers(-1, 1), draw(st.integers(0, 12)), draw(st.integers(0, 20))


@given(logs())
@settings(max_examples=150, deadline=None)
def test_counts_equal_counting_by_hand(log):
    key, time, label, delay, window = log
    found = counts_before(key, time, label, delay=delay, window=window)
    np.testing.assert_array_equal(np.stack(found, axis=1), by_hand(key, time, label, delay, window))


def test_a_rate_leans_on_the_rate_of_everything_known(tmp_path):
    columns = write_log(tmp_path, rows=4)
    for name, values in {
        "impressions/item": np.array([2, 3, 2, 2], np.int32),
        "impressions/time": np.array([100, 100, 200, 300]),
        "impressions/label.click": np.array([1, 0, 1, 0], np.int8),
    }.items():
        np.save(tmp_path / f"{name}.npy", values.astype(columns[name].dtype))
    schema = schema_of(
        Statistic(name="rate", by=("item",), prior=2.0), Statistic(name="bare", by=("item",), prior=0.0)
    )
    write_statistics(tmp_path, schema)
    # before 200: item 2 has 1 of 1, all have 1 of 2; before 300: item 2 has 2 of 2, all have 2 of 3
    expected = [0.5, 0.5, (1 + 2 * 0.5) / (1 + 2), (2 + 2 * 2 / 3) / (2 + 2)]
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.rate.npy"), expected, rtol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.bare.npy"), [0.5, 0.5, 1, 1], rtol=1e-6)


def test_a_lift_is_what_labels_lay_above_the_rates_of_their_items(tmp_path):
    columns = write_log(tmp_path, rows=4)
    for name, values in {
        "impressions/user": np.array([0, 1, 0, 0], np.int32),
        "impressions/item": np.array([2, 2, 2, 3], np.int32),
        "impressions/time": np.array([100, 200, 300, 400]),
        "impressions/label.click": np.array([1, 0, 1, 0], np.int8),
    }.items():
        np.save(tmp_path / f"{name}.npy", values.astype(columns[name].dtype))
    write_statistics(tmp_path, schema_of(Statistic(name="lift", by=("user",), of="lift", prior=2.0)))
    # item 2 had 0.5 at 100; at 300 it has 1 of 2, as has everything: 0.5
    expected = [0, 0, (1 - 0.5) / (1 + 2), ((1 - 0.5) + (1 - 0.5)) / (2 + 2)]
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.lift.npy"), expected, rtol=1e-6)


@given(logs())
@settings(max_examples=100, deadline=None)
def test_the_newest_positive_equals_the_one_found_by_hand(log):
    key, time, label, delay, window = log
    count, newest = newest_before(key, time, label, delay=delay, window=window)
    for row in range(len(key)):
        seen = (key == key[row]) & (label == 1) & (time + delay < time[row])
        seen &= (time >= time[row] - window) & (time < time[row]) if window else True
        assert (count[row], newest[row]) == (seen.sum(), time[seen].max(initial=0))


def test_a_recency_is_the_time_since_the_newest_click_and_its_window_without_one(tmp_path):
    columns = write_log(tmp_path, rows=6)
    for name, values in {
        "impressions/user": np.array([0, 0, 1, 0, 0, 0], np.int32),
        "impressions/item": np.full(6, 4, np.int32),
        "impressions/time": np.array([0, 100, 150, 200, 200, 700]),
        "impressions/label.click": np.array([1, 1, 1, 0, -1, 0], np.int8),
    }.items():
        np.save(tmp_path / f"{name}.npy", values.astype(columns[name].dtype))
    recency = Statistic(name="since", by=("user",), of="recency", window=500)
    write_statistics(tmp_path, schema_of(recency))
    # of user 0: nothing before 0, a click at 0, then one at 100, which is 600 s back at the end
    found = np.load(tmp_path / "impressions/field.since.npy")
    assert found.tolist() == [500, 100, 500, 100, 100, 500]
    write_statistics(tmp_path, schema_of(recency, delay=100))
    found = np.load(tmp_path / "impressions/field.since.npy")
    assert found.tolist() == [500, 500, 500, 200, 200, 500]  # a click is known after 100 s


def test_a_recency_by_several_values_is_that_of_the_newest(tmp_path):
    columns = write_log(tmp_path, rows=3)
    genre = columns["items/field.genre"].copy()
    genre[4:7] = [(3, 0, 0), (4, 0, 0), (3, 4, 0)]
    np.save(tmp_path / "items/field.genre.npy", genre)
    for name, values in {
        "impressions/user": np.zeros(3, np.int32),
        "impressions/item": np.array([4, 5, 6], np.int32),
        "impressions/time": np.array([100, 130, 200]),
        "impressions/label.click": np.ones(3, np.int8),
    }.items():
        np.save(tmp_path / f"{name}.npy", values.astype(columns[name].dtype))
    write_statistics(tmp_path, schema_of(Statistic(name="s", by=("genre",), of="recency", window=DAY)))
    assert np.load(tmp_path / "impressions/field.s.npy").tolist() == [DAY, DAY, 70]


def write_hours(folder, slot):
    """Four impressions of one user, two of them in the hour from 1 to 2 of different days."""
    columns = write_log(folder, rows=4)
    for name, values in {
        "impressions/time": np.array([3_600, 7_200, DAY + 7_199, 2 * DAY + 3_600]),
        "impressions/label.click": np.array([1, 0, 0, 0], np.int8),
        "impressions/field.slot": np.array(slot, np.int32),
    }.items():
        np.save(folder / f"{name}.npy", values.astype(columns[name].dtype))


def test_an_hour_counts_what_came_in_the_same_hour_of_earlier_days(tmp_path):
    write_hours(tmp_path, [2, 2, 2, 3])
    hour, both = (
        Statistic(name=name, by=by, prior=2.0)
        for name, by in (("hour_rate", ("hour_of_day",)), ("both_rate", ("hour_of_day", "slot")))
    )
    write_statistics(tmp_path, schema_of(hour, both))
    # all have 1 of 1, 1 of 2, 1 of 3; the hour has 1 of 1, then 1 of 2
    expected = [0.5, 1, (1 + 2 / 2) / (1 + 2), (1 + 2 / 3) / (2 + 2)]
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.hour_rate.npy"), expected, rtol=1e-6)
    expected[3] = 1 / 3  # the rate of all, since the slot is another one
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.both_rate.npy"), expected, rtol=1e-6)


def test_a_field_called_hour_of_day_is_the_key_of_that_name(tmp_path):
    write_hours(tmp_path, [2, 3, 3, 3])
    np.save(tmp_path / "impressions/field.hour_of_day.npy", np.load(tmp_path / "impressions/field.slot.npy"))
    schema = schema_of(Statistic(name="count", by=("hour_of_day",), of="count"))
    write_statistics(tmp_path, structs.replace(schema, context=(Field(name="hour_of_day"),)))
    assert np.load(tmp_path / "impressions/field.count.npy").tolist() == [0, 0, 1, 2]


def test_no_impressions_have_no_keys(tmp_path):
    write_log(tmp_path)
    log = ImpressionLog(tmp_path, schema_of())
    assert log.keys(("user", "genre"), np.zeros(0, np.int64)).shape == (0, 3)


def test_a_field_of_several_values_gives_the_mean_over_its_distinct_values(tmp_path):
    columns = write_log(tmp_path)
    write_statistics(tmp_path, schema_of(Statistic(name="seen", by=("user_id", "genre"), of="count")))
    user, item, time = (columns[f"impressions/{name}"] for name in ("user", "item", "time"))
    genres = [set(row.tolist()) - {0} for row in columns["items/field.genre"]]
    expected = [
        np.mean(
            [
                sum(g in genres[i] for i in item[(user == user[row]) & (time < time[row])])
                for g in genres[item[row]]
            ]
        )
        for row in range(len(user))
    ]
    np.testing.assert_allclose(np.load(tmp_path / "impressions/field.seen.npy"), expected, rtol=1e-6)


EVERYTHING = (
    Statistic(name="a", by=("item",), window=3 * DAY),
    Statistic(name="b", by=("item",), of="count"),
    Statistic(name="c", by=("user", "genre"), label="buy", prior=3.0),
    Statistic(name="d", by=("city", "slot"), of="count", window=DAY),
    Statistic(name="e", by=("genre",), prior=0.0),
    Statistic(name="f", by=("user", "genre"), of="lift", prior=3.0),
    Statistic(name="g", by=("user",), of="lift", label="buy", window=2 * DAY, prior=3.0),
    Statistic(name="h", by=("user", "genre"), of="recency", window=DAY),
    Statistic(name="i", by=("user", "genre"), of="share", label="buy", window=DAY),
)


@thinned("memory_rows", [64, 500, 1201])
def test_bytes_do_not_depend_on_the_memory_that_is_granted(tmp_path, memory_rows):
    schema = schema_of(*EVERYTHING, delay=7200)
    for folder, rows in ((tmp_path / "whole", 1 << 20), (tmp_path / "pieces", memory_rows)):
        write_log(folder)
        write_statistics(folder, schema, memory_rows=rows)
    for name in "abcdefghi":
        written = [
            (tmp_path / which / f"impressions/field.{name}.npy").read_bytes() for which in ("whole", "pieces")
        ]
        assert written[0] == written[1]
    assert not (tmp_path / "pieces/statistics.spill").exists()


def test_the_order_of_rows_does_not_change_a_statistic(tmp_path):
    columns = write_log(tmp_path / "a")
    write_log(tmp_path / "b")
    order = np.random.default_rng(1).permutation(400)
    for name, column in columns.items():
        if name.startswith("impressions/"):
            np.save(tmp_path / "b" / f"{name}.npy", column[order])
    for folder in ("a", "b"):
        write_statistics(tmp_path / folder, schema_of(*EVERYTHING))
    for name in "abcdefghi":
        a, b = (np.load(tmp_path / folder / f"impressions/field.{name}.npy") for folder in "ab")
        np.testing.assert_array_equal(a[order], b)


def test_later_rows_never_change_an_earlier_statistic(tmp_path):
    columns = write_log(tmp_path / "all")
    write_log(tmp_path / "early")
    early = columns["impressions/time"] <= np.median(columns["impressions/time"])
    for name, column in columns.items():
        if name.startswith("impressions/"):
            np.save(tmp_path / "early" / f"{name}.npy", column[early])
    for folder in ("all", "early"):
        write_statistics(tmp_path / folder, schema_of(*EVERYTHING))
    for name in "abcdefghi":
        everything, some = (np.load(tmp_path / f / f"impressions/field.{name}.npy") for f in ("all", "early"))
        np.testing.assert_array_equal(everything[early], some)


def test_progress_counts_every_impression_once_per_statistic(tmp_path):
    write_log(tmp_path)
    calls = []
    write_statistics(
        tmp_path, schema_of(*EVERYTHING), memory_rows=150, progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == ("statistics", 3600, 3600)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_a_schema_without_statistics_writes_nothing(tmp_path):
    write_statistics(tmp_path, schema_of())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statistic", "message"),
    [
        (Statistic(name="s", by=("age",)), "categorical"),
        (Statistic(name="s", by=("gendre",)), "did you mean 'genre'"),
        (Statistic(name="s", by=("item",), label="clik"), "did you mean 'click'"),
        (Statistic(name="s", by=("item",), window=-1), ">= 0"),
        (Statistic(name="s", by=("user", "item") * 13), "too many keys"),
    ],
)
def test_a_statistic_that_makes_no_sense_is_refused(tmp_path, statistic, message):
    write_log(tmp_path)
    with pytest.raises(SchemaError, match=message):
        write_statistics(tmp_path, schema_of(statistic))


def test_a_missing_column_is_named(tmp_path):
    write_log(tmp_path)
    (tmp_path / "impressions/time.npy").unlink()
    with pytest.raises(DataError, match=r"time\.npy is missing"):
        ImpressionLog(tmp_path, schema_of())


@pytest.mark.wide
def test_memory_grows_with_memory_rows_and_not_with_the_log(tmp_path):
    peaks = []
    for run, rows in enumerate((1_000, 20_000, 80_000)):  # the first run only loads what is imported late
        folder = tmp_path / str(run)
        write_log(folder, rows=rows)
        tracemalloc.start()
        write_statistics(folder, schema_of(Statistic(name="city_rate", by=("city",))), memory_rows=4_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1], f"peak bytes {peaks[1:]} for a log of 1x and 4x rows"


def test_sums_are_of_the_values_that_were_known():
    value = np.array([0.5, np.nan, 1.5, 9.0])
    found = sums_before(np.array([1, 1, 1, 2]), np.array([0, 5, 20, 20]), value)
    assert found.tolist() == [0.0, 0.5, 0.5, 0.0]
    later = sums_before(np.zeros(4, int), np.array([0, 1, 2, 10]), value, delay=2, window=9)
    assert later.tolist() == [0.0, 0.0, 0.0, 1.5]  # 0 left the window, 1 is unknown, 2 is known after 4


def test_a_share_compares_positives_of_the_key_with_those_of_all_others(tmp_path):
    columns = write_log(tmp_path)
    written = (
        Statistic(name="kind", by=("user_id", "genre"), of="share", prior=3.0, window=DAY),
        Statistic(name="item", by=("item_id",), of="share", label="buy", prior=0.0),
        Statistic(name="users", by=("genre", "user_id"), of="share"),
        Statistic(name="lately", by=("item_id",), of="share", label="buy", prior=5.0, window=DAY // 8),
    )
    write_statistics(tmp_path, schema_of(*written, delay=7200))
    user, item, time = (columns[f"impressions/{name}"] for name in ("user", "item", "time"))
    genres = [set(row.tolist()) - {0} for row in columns["items/field.genre"]]
    has = {genre: np.array([genre in genres[i] for i in item]) for genre in range(1, 6)}
    click, buy = (columns[f"impressions/label.{name}"] == 1 for name in ("click", "buy"))
    found = {one.name: np.load(tmp_path / f"impressions/field.{one.name}.npy") for one in written}
    for row in range(0, 400, 23):
        ever = click & (time + 7200 < time[row])
        lately, mine = ever & (time >= time[row] - DAY), user == user[row]
        kinds, users = [], []
        for genre in genres[item[row]]:
            expected = ((ever & has[genre]).sum() + 1) / (ever.sum() + 1)
            own = (lately & mine & has[genre]).sum()
            kinds.append((own + 3 * expected) / ((lately & mine).sum() + 3) / expected)
            expected = ((ever & mine).sum() + 1) / (ever.sum() + 1)
            own = (ever & mine & has[genre]).sum()
            users.append((own + 20 * expected) / ((ever & has[genre]).sum() + 20) / expected)
        bought = buy & (time < time[row])
        among = (bought & (item == item[row])).sum() / bought.sum() * 1000 if bought.any() else 1
        # Where a window holds little, the share is that of all time.
        own, window = item == item[row], bought & (time >= time[row] - DAY // 8)
        expected = ((bought & own).sum() + 1) / (bought.sum() + 1)
        late = ((window & own).sum() + 5 * expected) / (window.sum() + 5) * 1000
        values = {"kind": np.mean(kinds), "users": np.mean(users), "item": among, "lately": late}
        assert {name: column[row] for name, column in found.items()} == pytest.approx(values, rel=1e-6)


def write_drawn(folder):
    """A log of positives with a table of them, and impressions of which half were drawn."""
    columns = write_log(folder)
    random = np.random.default_rng(5)
    shown = np.sort(random.choice(400, 120, replace=False))
    positives = {
        name.replace("impressions", "positives"): column[shown]
        for name, column in columns.items()
        if name.startswith("impressions")
    }
    positives["positives/label.click"] = np.ones(120, np.int8)
    (folder / "positives").mkdir()
    for name, column in positives.items():
        np.save(folder / f"{name}.npy", column)
    return columns, positives


OF_POSITIVES = (
    Statistic(name="a", by=("item",), of="count", window=DAY),
    Statistic(name="b", by=("user", "slot"), of="share"),
    Statistic(name="c", by=("user", "genre"), of="share", window=DAY, prior=3.0),
    Statistic(name="d", by=("user",), of="recency", window=DAY),
)


def test_where_negatives_were_drawn_the_positives_of_the_log_are_counted(tmp_path):
    columns, positives = write_drawn(tmp_path)
    schema = structs.replace(schema_of(*OF_POSITIVES, delay=7200), sampled_negatives=1)
    write_statistics(tmp_path, schema)
    item, time = columns["impressions/item"], columns["impressions/time"]
    sold, when = positives["positives/item"], positives["positives/time"]
    seen = (sold == item[:, None]) & (when + 7200 < time[:, None]) & (when >= time[:, None] - DAY)
    assert np.load(tmp_path / "impressions/field.a.npy").tolist() == seen.sum(axis=1).tolist()


@pytest.mark.parametrize("memory_rows", [64, 500])
def test_positives_give_the_same_bytes_in_memory_and_on_disk(tmp_path, memory_rows):
    schema = structs.replace(schema_of(*OF_POSITIVES, delay=7200), sampled_negatives=1)
    for folder, rows in ((tmp_path / "whole", 1 << 20), (tmp_path / "pieces", memory_rows)):
        write_drawn(folder)
        write_statistics(folder, schema, memory_rows=rows)
    for name in "abcd":
        whole, pieces = (
            (tmp_path / which / f"impressions/field.{name}.npy").read_bytes() for which in ("whole", "pieces")
        )
        assert whole == pieces
