"""Lists of earlier behaviors become timelines: each event once, and none before it was known."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.dataset import open_dataset
from clickscale.data.described.histories import Histories
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import SchemaError
from clickscale.features import FIRST
from clickscale.inference.requests import encode_requests, user_identity

T = 1_600_000_000
LOG = """
name = "news"
user = { name = "user", column = "user" }
item = { name = "item", column = "shown" }
labels = [{ name = "click", column = "clicked" }]
[impressions]
files = "log.jsonl"
time = "time"
[impressions.lists]
chosen = ["clicked"]
[behaviors]
where = "clicked == 1"
[split]
valid = 0
test = 0
"""


def prepared(folder, rows, toml, **tables):
    for name, lines in {"log": rows, **tables}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "log.toml").write_text(toml)
    manifest = prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True)
    return open_dataset(folder / "out"), manifest


def timeline(dataset, user=0):
    """(item, seconds after T) of the behaviors of a user."""
    rows = slice(*dataset.users["offsets"][user : user + 2])
    items = dataset.encoder.item_rows.values
    return [
        (items[int(item) - 2].as_py(), int(time) - T)
        for item, time in zip(dataset.behaviors["item"][rows], dataset.behaviors["time"][rows], strict=True)
    ]


def row(time, history, shown=("x",), clicked=(), user="u"):
    return {
        "user": user,
        "time": T + time,
        "history": list(history),
        "shown": list(shown),
        "clicked": list(clicked),
    }


def test_a_list_of_a_row_stands_just_before_the_row(tmp_path):
    dataset, manifest = prepared(tmp_path, [row(100, "abc")], LOG + '[history]\nitems = "history"\n')
    assert timeline(dataset) == [("a", 97), ("b", 98), ("c", 99)]
    assert dataset.impressions["visible"].tolist() == [3]
    assert any("order but no times" in note for note in manifest.notes)


def test_what_rows_repeat_counts_once_and_the_repetitions_are_counted(tmp_path):
    rows = [row(300, "abcd"), row(100, "ab"), row(200, "abc")]  # not in order of time
    dataset, manifest = prepared(tmp_path, rows, LOG + '[history]\nitems = "history"\n')
    assert timeline(dataset) == [("a", 98), ("b", 99), ("c", 199), ("d", 299)]
    assert dataset.impressions["visible"].tolist() == [2, 3, 4]
    report = manifest.report["behaviors"]
    assert (report.rows, report.kept, report.quarantined) == (9, 4, {"repeated": 5})


def test_a_sliding_window_of_the_last_behaviors_is_understood(tmp_path):
    rows = [row(100, "abc"), row(200, "bca"), row(300, "caa")]  # the last three of a b c a a
    dataset, _ = prepared(tmp_path, rows, LOG + '[history]\nitems = "history"\n')
    assert [item for item, _ in timeline(dataset)] == list("abcaa")


def test_a_click_of_the_log_that_a_later_list_shows_is_one_event(tmp_path):
    rows = [row(100, "ab", "xy", "x"), row(200, "abx", "z"), row(300, "abxq", "z")]
    dataset, _ = prepared(tmp_path, rows, LOG + '[history]\nitems = "history"\n')
    assert timeline(dataset) == [("a", 98), ("b", 99), ("x", 100), ("q", 299)]
    assert dataset.impressions["visible"].tolist() == [2, 2, 3, 4]


def test_a_list_that_stays_the_same_does_not_hide_the_clicks_of_the_log(tmp_path):
    rows = [row(100, "ab", "x", "x"), row(200, "ab", "y", "y"), row(300, "ab", "z")]
    dataset, _ = prepared(tmp_path, rows, LOG + '[history]\nitems = "history"\n')
    assert [item for item, _ in timeline(dataset)] == list("abxy")
    assert dataset.impressions["visible"].tolist() == [2, 3, 4]


def test_nothing_new_is_placed_before_the_row_that_did_not_list_it(tmp_path):
    rows = [row(100, ""), row(101, "abcdefgh"), row(101, "abcdefghi")]
    dataset, _ = prepared(tmp_path, rows, LOG + '[history]\nitems = "history"\n')
    times = [time for _, time in timeline(dataset)]
    assert min(times) >= 100
    assert dataset.impressions["visible"][0] == 0


def test_times_beside_the_items_place_them(tmp_path):
    rows = [row(100, "ab") | {"when": [T + 10, T + 20]}, row(200, "bc") | {"when": [T + 20, T + 150]}]
    toml = LOG + '[history]\nitems = "history"\ntimes = "when"\nknown_after = 5\n'
    dataset, manifest = prepared(tmp_path, rows, toml)
    assert timeline(dataset) == [("a", 10), ("b", 20), ("c", 150)]
    assert (dataset.known_at - T).tolist() == [15, 25, 155]
    assert dataset.impressions["visible"].tolist() == [2, 3]
    assert manifest.report["behaviors"].quarantined == {"repeated": 1}


def test_a_table_of_histories_with_fields_of_their_own(tmp_path):
    past = [
        {"user": "u", "items": ["a", "b"], "when": [T + 1, T + 2], "read": [0.5, None]},
        {"user": "v", "items": ["a", "b"], "when": [T + 1], "read": [0.5, 1.0]},
    ]
    toml = LOG + (
        '[history]\nfiles = "past.jsonl"\nitems = "items"\ntimes = "when"\n'
        'fields = [{ name = "past_read", column = "read", kind = "numeric" }]\n'
    )
    dataset, manifest = prepared(tmp_path, [row(100, "", "xy", "x"), row(200, "", user="v")], toml, past=past)
    assert timeline(dataset) == [("a", 1), ("b", 2), ("x", 100)]
    assert np.isnan(dataset.behaviors["field.past_read"]).tolist() == [False, True, True]
    assert manifest.report["behaviors"].quarantined == {"uneven_lists": 1}


@pytest.mark.parametrize(
    ("keys", "last"),
    [("", 99), ('time = "until"\n', 50)],
)
def test_a_table_of_histories_without_times_ends_before_the_first_row_or_at_its_own_time(
    tmp_path, keys, last
):
    past = [
        {"user": "u", "items": ["a", "b"], "until": T + 50},
        {"user": "w", "items": ["a"], "until": T + 50},
    ]
    toml = LOG + f'[history]\nfiles = "past.jsonl"\nitems = "items"\n{keys}'
    dataset, manifest = prepared(tmp_path, [row(200, ""), row(100, "", "xy", "x")], toml, past=past)
    assert timeline(dataset) == [("a", last - 1), ("b", last), ("x", 100)]
    assert dataset.impressions["visible"][:2].tolist() == [2, 2]
    assert manifest.report["behaviors"].kept == 4  # the user who is never shown anything included


def test_timelines_do_not_depend_on_where_the_reader_cuts(tmp_path, monkeypatch):
    rows = [row(100 * n, "abcdefg"[: n % 8], "xy", "x" * (n % 2), user="uvw"[n % 3]) for n in range(1, 30)]
    toml = LOG + '[history]\nitems = "history"\n'
    _, whole = prepared(tmp_path, rows, toml)
    monkeypatch.setattr("clickscale.data.described.table_files._ROWS_WITH_LISTS", 2)
    _, cut = prepared(tmp_path, rows, toml)
    assert whole.files == cut.files
    assert whole.report == cut.report


def test_a_history_without_its_column_of_items_is_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"\[history\] needs the column with the lists"):
        prepared(tmp_path, [row(100, "a")], LOG + "[history]\n")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), max_size=12),
    st.lists(st.integers(1, 45), min_size=1, max_size=6, unique=True),
)
def test_lists_of_any_log_place_each_event_once_and_never_before_it_happened(happened, asked):
    """A user meets item n at the n-th moment; each row shows the last three items before it."""
    moments = sorted(happened)
    histories = Histories((), timed=False, has_known_at=False)
    listed = []
    for time in asked:
        before = [item for item, moment in enumerate(moments) if moment < time][-3:]
        listed.append((time, before))
        user, when = pa.array(["u"]), pa.array([T + time])
        if not before:
            histories.add_moments(user, when)
        entries = pa.RecordBatch.from_arrays(
            [
                pa.array(["u"] * len(before), pa.string()),
                pa.array([str(item) for item in before], pa.string()),
                pa.array([T + time] * len(before), pa.int64()),
                pa.nulls(len(before), pa.string()),
            ],
            names=["user", "item", "time", "problem"],
        )
        assert list(histories.add_entries(entries, np.zeros(len(before), np.int64))) == []
    found = [row for batch in histories.timelines() for row in batch.to_pylist() if row["problem"] is None]
    placed = {int(row["item"]): row["time"] - T for row in found}
    assert len(placed) == len(found)
    assert set(placed) == {item for _, before in listed for item in before}
    for time, before in listed:
        visible = {item for item, known in placed.items() if known < time}
        assert visible <= {item for item, moment in enumerate(moments) if moment < time}
        assert set(before) <= visible


ROWS = """
name = "rows"
item = { name = "item", column = "shown" }
labels = [{ name = "click", column = "clicked" }]
[impressions]
files = "log.jsonl"
order = "rows"
[history]
items = "history"
per_row = true
"""


def test_each_row_may_keep_a_history_of_its_own(tmp_path):
    rows = [
        {"who": "u", "shown": item, "clicked": n % 2, "history": list(past)}
        for n, (item, past) in enumerate([("x", "ab"), ("y", ""), ("x", "bab"), ("y", "a0")] * 5)
    ]
    toml = ROWS + 'padding = "0"\n[users]\nfields = [{ name = "who" }]\n'
    dataset, manifest = prepared(tmp_path, rows, toml)
    order = np.argsort(dataset.impressions["row"], kind="stable")
    assert dataset.impressions["visible"][order[:4]].tolist() == [2, 0, 3, 1]
    seen = [timeline(dataset, int(dataset.impressions["user"][row])) for row in order[:4]]
    assert [[item for item, _ in behaviors] for behaviors in seen] == [["a", "b"], [], ["b", "a", "b"], ["a"]]
    assert manifest.report["behaviors"].quarantined == {}
    # At serving, users have the ids that they have elsewhere.
    sent = {"time": 9, "behaviors": [{"item": "a", "time": 8}], "candidates": [{"item": "x"}]}
    asked = [{"user": user} | sent for user in (7, "7", "anna", "\ud800")]
    batch = encode_requests(asked, dataset.encoder, 3).batch
    assert batch.user.profile[:, 0].tolist() == [FIRST] * 4
    assert len({user_identity(one["user"], dataset.encoder) for one in asked}) == 3


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            'user = { name = "user", column = "who" }\n' + ROWS,
            "every row is a user of its own, so user means nothing",
        ),
        (ROWS + 'files = "past.jsonl"\n', "so history.files means nothing"),
        (ROWS + 'times = "when"\n', r"history.times = 'when' cannot be compared with rows that have no time"),
        ('groups = "who"\n' + ROWS, r"groups: Unknown field of \[users\] 'who'"),
        (
            'groups = "who"\n' + ROWS.replace("per_row = true", ""),
            "log with history.per_row, and this log has none",
        ),
    ],
)
def test_rows_of_their_own_know_no_users(tmp_path, lines, complaint):
    rows = [{"who": "u", "shown": "x", "clicked": 1, "history": ["a"], "when": [T]}]
    if "per_row" not in lines:
        lines = 'user = { name = "user", column = "who" }\n' + lines
    with pytest.raises(SchemaError, match=complaint):
        prepared(tmp_path, rows, lines, past=rows)
