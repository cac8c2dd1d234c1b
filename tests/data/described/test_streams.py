"""Impressions and what came of them as rows of one table, told apart by a condition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.tables import chunks
from clickscale.errors import InputError, SchemaError
from clickscale.features import FIRST
from tests.data.described.logs import START, Row, clicks, csv_text, save
from tests.everyday import thinned

LOG = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[[outcomes]]
name = "clicked"
files = "events.csv"
where = "event == 'click'"
OUTCOME
[impressions]
files = "events.csv"
time = "time"
where = "event == 'impression'"
fields = [{ name = "slot" }]
"""
BY_ID = 'key = ["shown"]'
BY_TIME = 'key = ["user_id", "item_id"]\ntime = "time"\nwithin = 20'


def stream(rows: list[Row], later: int = 15) -> list[Row]:
    """Impressions, clicks of them ``later`` and a few visits of no impression, in the order of time."""
    events = []
    for n, row in enumerate(rows):
        seen = {"shown": f"s{n}", "user_id": row["user_id"], "item_id": row["item_id"]}
        events.append({"event": "impression", **seen, "time": row["time"], "slot": "ab"[n % 2]})
        if row["clicked"]:
            events.append({"event": "click", **seen, "time": row["time"] + later, "slot": "none"})
        if n % 9 == 0:
            events.append({"event": "visit", **seen, "shown": "", "time": row["time"] + 1, "slot": "c"})
    return sorted(events, key=lambda event: event["time"])


def prepared(folder: Path, outcome: str = BY_ID, more: str = "", log: str = LOG, **options: Any) -> Dataset:
    (folder / "log.toml").write_text(log.replace("OUTCOME", outcome) + more)
    prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True, **options)
    return open_dataset(folder / "out")


def in_order(dataset: Dataset, name: str) -> list[int]:
    """A column of the impressions in the order of time, in which no two share a moment."""
    return np.asarray(dataset.impressions[name])[np.argsort(dataset.impressions["time"])].tolist()


@thinned("outcome", [BY_ID, BY_TIME])
def test_rows_of_one_kind_are_impressions_and_those_of_another_say_which_were_clicked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    rows = clicks()
    events = stream(rows)
    save(tmp_path, events, "events.csv")
    dataset = prepared(tmp_path, outcome)
    assert in_order(dataset, "label.click") == [row["clicked"] for row in rows]
    assert in_order(dataset, "time") == [row["time"] for row in rows]
    assert len(dataset.behaviors["item"]) == len(rows)
    assert len(set(in_order(dataset, "field.slot"))) == len("ab")  # no values of the other rows
    monkeypatch.setattr(chunks, "_BLOCK", 300)  # many pieces without an impression
    assert in_order(prepared(tmp_path, outcome), "label.click") == [row["clicked"] for row in rows]


def test_every_row_is_kept_quarantined_or_left_out(tmp_path: Path) -> None:
    rows = clicks()
    events = stream(rows)
    broken = ["impression,s1\n", f"impression,s2,,i1,{START},a\n", f"click,s3,,i1,{START},a\n", ",,,,,\n"]
    (tmp_path / "events.csv").write_text(csv_text(events) + "".join(broken))
    dataset = prepared(tmp_path)
    report = dataset.manifest.report["impressions"]
    assert (report.kept, report.quarantined) == (len(rows), {"bad_row": 1, "null_user": 1})
    left_out = len(events) + len(broken) - report.rows
    total = f"{len(events) + len(broken):,}"
    assert f"{left_out} of {total} rows of the table of impressions do not fulfill" in "\n".join(
        dataset.manifest.notes
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'impression'", "'shown'", r"impressions. where \"event == 'shown'\" holds for 0 of [\d,]+ rows"),
        ("'impression'", "'shown'", "column 'event' has 'impression', 'visit', 'click'"),
        (
            "'click'",
            "'clik'",
            r"outcome 'clicked': where \"event == 'clik'\" holds for 0 of [\d,]+ rows of ev",
        ),
        ("event == 'click'", "event >= 1", "outcome 'clicked': where .* holds for 0"),
        ("event == 'click'", "evnt == 'click'", "unknown column 'evnt'; did you mean 'event'"),
        ("event == 'impression'", "evnt == 'impression'", "unknown column 'evnt'; did you mean 'event'"),
    ],
)
def test_a_condition_that_no_row_fulfills_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    save(tmp_path, stream(clicks()), "events.csv")
    with pytest.raises(InputError, match=f"(?i){message}"):
        prepared(tmp_path, log=LOG.replace(old, new))


def test_a_condition_that_hardly_any_row_fulfills_is_told(tmp_path: Path) -> None:
    rows = [row | {"clicked": int(n == 5)} for n, row in enumerate(clicks())]
    save(tmp_path, stream(rows), "events.csv")
    notes = "\n".join(prepared(tmp_path).manifest.notes)
    assert (
        "WARNING: outcome 'clicked': where \"event == 'click'\" holds for 1 of 668 rows of events.csv"
        in notes
    )


@pytest.mark.parametrize(
    ("where", "more", "message"),
    [
        ("clicked == 1", "", r"\[\[outcomes\]\] makes 'clicked'"),
        ("place == 1", '[impressions.lists]\nposition = "place"', "lists. takes apart 'place'"),
        ("event", "", "Cannot read the condition 'event'"),
    ],
)
def test_a_condition_chooses_rows_as_they_stand(tmp_path: Path, where: str, more: str, message: str) -> None:
    save(tmp_path, stream(clicks()), "events.csv")
    with pytest.raises(SchemaError, match=message):
        prepared(tmp_path, more=more, log=LOG.replace("event == 'impression'", where))


def test_attributes_come_from_impressions_only(tmp_path: Path) -> None:
    events = stream(clicks())
    late = {"event": "visit", "shown": "", "user_id": "u99", "item_id": "i1", "time": START, "slot": "z"}
    save(tmp_path, [late, *events], "events.csv")
    log = LOG.replace('fields = [{ name = "slot" }]', "")
    dataset = prepared(tmp_path, more='[items]\nfields = [{ name = "slot" }]', log=log)
    assert dataset.manifest.counts["users"] == 40
    assert len(set(np.asarray(dataset.items["field.slot"])[FIRST:].tolist())) <= len("ab")


def test_requests_with_lists_are_chosen_before_their_lists_are_taken_apart(tmp_path: Path) -> None:
    rows: list[Row] = []
    for n, row in enumerate(clicks()[::3]):
        rows.append({"kind": "request", "user": row["user_id"], "time": row["time"]})
        rows[-1] |= {"shown": [f"i{n % 20}", f"i{20 + n % 5}"], "taken": [f"i{n % 20}"] if n % 3 else []}
        rows.append(
            {"kind": "beat", "user": row["user_id"], "time": row["time"] + 1, "shown": [], "taken": []}
        )
        rows[-1] |= {"past": [f"old{n}"]}
    save(tmp_path, rows, "requests.jsonl")
    toml = """
name = "x"
user = { name = "user" }
item = { name = "item", column = "shown" }
labels = [{ name = "click", column = "taken" }]
[impressions]
files = "requests.jsonl"
where = "kind == 'request'"
[impressions.lists]
chosen = ["taken"]
[behaviors]
where = "taken == 1"
[history]
items = "past"
"""
    dataset = prepared(tmp_path, log=toml)
    assert dataset.manifest.report["impressions"].quarantined == {}
    assert len(dataset.impressions["time"]) == 2 * 200
    assert np.mean(dataset.impressions["label.click"]) == pytest.approx(1 / 3, abs=0.01)
    assert len(dataset.behaviors["item"]) == sum(n % 3 > 0 for n in range(200))  # none of the other rows
