"""Tables of which several rows have one key: others get lists of their values."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.features.values import read_keys
from clickscale.data.preparation.prepare import prepare
from tests.data.described.logs import START, clicks, save

HEAD = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
"""
BADGES = (
    HEAD
    + """[[joined]]
files = "badges.csv"
key = ["seller"]
several = true
prefix = "seller_"
[impressions]
files = "clicks.csv"
time = "time"
[items]
files = "items.csv"
fields = [{ name = "seller_badge", values = 3 }]
[[items.more]]
files = "tags.csv"
fields = [{ name = "groups", column = "seller_badge", values = 4 }]
"""
)


def test_several_rows_of_a_key_give_lists_and_further_tables_gather_them(tmp_path: Path) -> None:
    save(tmp_path, clicks(), "clicks.csv")
    save(tmp_path, [{"item_id": f"i{n}", "seller": f"s{n % 3}"} for n in range(25)], "items.csv")
    # Seller 2 has no badge, and item 1 has tags of two sellers.
    badges = [{"seller": f"s{n}", "badge": badge} for badge, n in (("b0", 0), ("b1", 1), ("b2", 0))]
    save(tmp_path, badges, "badges.csv")
    save(tmp_path, [{"item_id": "i1", "seller": "s0"}, {"item_id": "i1", "seller": "s1"}], "tags.csv")
    (tmp_path / "log.toml").write_text(BADGES)
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    for name, expected in (
        ("seller_badge", {"i0": ["b0", "b2"], "i1": ["b1"], "i2": [], "i3": ["b0", "b2"]}),
        ("groups", {"i0": [], "i1": ["b0", "b2", "b1"]}),
    ):
        words = data.encoder.vocabulary(name).values.to_pylist()
        rows = np.asarray(data.items[f"field.{name}"])
        ids = data.encoder.item_rows.lookup
        for item, badges_of in expected.items():
            row = rows[int(ids(read_keys(pa.array([item]), "string").data)[0])]
            assert [words[index - 2] for index in row if index > 1] == badges_of


TAGS = (
    HEAD
    + """[[joined]]
files = "tags.csv"
key = ["item_id"]
several = true
valid_from = "since"
UNTIL
[impressions]
files = "clicks.csv"
time = "time"
fields = [{ name = "tag", values = 4 }]
"""
)


@pytest.mark.parametrize("until", [True, False])
def test_all_rows_that_hold_at_the_time_of_an_impression_give_a_list(tmp_path: Path, until: bool) -> None:
    rows = [row | {"item_id": "i1", "user_id": f"u{n}"} for n, row in enumerate(clicks(8))]
    for n, row in enumerate(rows):
        row["time"] = START + 100 * n
    save(tmp_path, rows, "clicks.csv")
    # By hundreds of seconds after the start: the tag, from when, and up to when it holds.
    periods = [("a", 1, 4), ("b", 1, 2), ("c", 3, None), ("d", 3, 6)]
    tags = [
        {"item_id": "i1", "tag": tag, "since": START + 100 * begin, "until": end and START + 100 * end}
        for tag, begin, end in periods
    ]
    save(tmp_path, tags, "tags.csv")
    (tmp_path / "log.toml").write_text(TAGS.replace("UNTIL", 'valid_to = "until"' if until else ""))
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    words = ["", "?", *data.encoder.vocabulary("tag").values.to_pylist()]
    found = np.asarray(data.impressions["field.tag"])[np.argsort(np.asarray(data.impressions["time"]))]
    shown = ["".join(words[index] for index in row if index > 1) for row in found]  # 1: there is none
    expected = ["", "ab", "a", "acd", "cd", "cd", "c", "c"] if until else ["", "ab", "ab", *["cd"] * 5]
    assert shown == expected


NAMED = (
    HEAD
    + """[[joined]]
files = "tags.csv"
key = ["id"]
shown_key = ["tags"]
SEPARATOR
[impressions]
files = "clicks.csv"
time = "time"
[items]
files = "ITEMS"
fields = [{ name = "group", values = 3 }]
"""
)


@pytest.mark.parametrize("separator", ["", "|", ", "])
def test_lists_name_several_rows_and_get_lists(tmp_path: Path, separator: str) -> None:
    save(tmp_path, clicks(), "clicks.csv")
    save(tmp_path, [{"id": f"t{n}", "group": f"g{n // 2}"} for n in range(6)], "tags.csv")
    tags = {n: [f"t{n % 6}", f"t{(n + 3) % 6}"][: n % 3] for n in range(25)}
    tags[4] = ["t5", "none", "t0"]
    name = "items.csv" if separator == "|" else "items.jsonl"
    items = [
        {"item_id": f"i{n}", "tags": separator.join(held) if separator else held} for n, held in tags.items()
    ]
    save(tmp_path, items, name)
    told = f'entry_separator = "{separator.strip()}"' if separator else ""
    (tmp_path / "log.toml").write_text(NAMED.replace("SEPARATOR", told).replace("ITEMS", name))
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    words = data.encoder.vocabulary("group").values.to_pylist()
    rows = np.asarray(data.items["field.group"])
    for n in range(5):
        row = rows[int(data.encoder.item_rows.lookup(read_keys(pa.array([f"i{n}"]), "string").data)[0])]
        held = [f"g{int(tag[1:]) // 2}" for tag in tags[n] if tag != "none"]
        assert [words[index - 2] for index in row if index > 1] == held
    notes = [note for note in data.manifest.notes if "no row of tags.csv" in note]
    assert len(notes) == 1
    assert notes[0].endswith("ids of items name no row of tags.csv by tags.")
