"""Splits that a description asks for: each user's own, and the parts that the log names."""

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError, SchemaError

START = 1_704_067_200
LOG = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "clicked", column = "clicked" }]
[impressions]
files = FILES
time = "time"
"""


def rows_of(count, users=30):
    """Lines of ``count`` impressions of each user, an hour apart."""
    for k in range(count):
        for u in range(users):
            yield f"u{u},i{(u + k) % 7},{START + k * 3600 + u},{(u + k) % 2}"


def write(path, lines, more=""):
    path.write_text("\n".join([f"user_id,item_id,time,clicked{more}", *lines]) + "\n")


def prepared(folder, toml, files='"clicks.csv"'):
    (folder / "schema.toml").write_text(LOG.replace("FILES", files) + toml)
    manifest = prepare(load_log(folder / "schema.toml"), folder / "out", overwrite=True)
    return open_dataset(folder / "out"), manifest


def sizes(dataset):
    return [len(dataset.part(part)) for part in ("train", "valid", "test")]


@pytest.mark.parametrize(
    ("count", "parts", "said"),
    [
        (2, [60, 0, 0], ["30 of 30 users have no impression in valid", "in test", "so that part is empty"]),
        (
            5,
            [120, 30, 0],
            ["30 of 30 users have no impression in test (5 to 5 impressions each), so that part"],
        ),
        (6, [150, 0, 30], ["30 of 30 users have no impression in valid (6 to 6"]),
        (10, [240, 30, 30], []),
    ],
)
def test_users_of_few_impressions_are_reported_at_once(tmp_path, count, parts, said):
    write(tmp_path / "clicks.csv", rows_of(count))
    dataset, manifest = prepared(tmp_path, '[split]\nkind = "user_time"\n')
    assert sizes(dataset) == parts
    warnings = [note for note in manifest.notes if note.startswith("Warning")]
    assert len(warnings) == bool(said)
    assert all(piece in warnings[0] for piece in said)
    assert all("user_last" in warning for warning in warnings)


def test_the_last_moment_of_each_user_is_for_test_whatever_their_number(tmp_path):
    write(tmp_path / "clicks.csv", [*rows_of(5), f"new,i1,{START},1", f"new,i2,{START + 9},0"])
    dataset, manifest = prepared(tmp_path, '[split]\nkind = "user_last"\nvalid = 1\ntest = 1\n')
    assert sizes(dataset) == [92, 30, 30]
    assert any("1 of 31 users have no impression in test (2 to 2" in note for note in manifest.notes)


def test_a_column_names_the_parts(tmp_path):
    names = ["train"] * 20 + ["val"] * 5 + [" Test"] * 4 + ["other"]
    write(
        tmp_path / "clicks.csv",
        [f"{row},{name}" for row, name in zip(rows_of(1), names, strict=True)],
        ",fold",
    )
    dataset, manifest = prepared(tmp_path, '[split]\nkind = "column"\ncolumn = "fold"\n')
    assert sizes(dataset) == [20, 5, 4]
    assert manifest.report["impressions"].quarantined == {"bad_part": 1}
    assert not any(note.startswith("Warning") for note in manifest.notes)


def test_files_are_the_parts_and_the_last_of_train_become_valid(tmp_path):
    lines = list(rows_of(10))
    write(tmp_path / "a1.csv", lines[:100])
    write(tmp_path / "a2.csv", lines[100:200])
    write(tmp_path / "b.csv", lines[200:])
    dataset, _ = prepared(tmp_path, "", '{ train = "a*.csv", test = "b.csv" }')
    assert sizes(dataset) == [180, 20, 100]
    times = [dataset.impressions["time"][dataset.part(part)] for part in ("train", "valid", "test")]
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()
    assert dataset.encoder.vocabularies["user"].size == 32
    other = open_dataset(dataset.path, Split(kind="user_last", valid=0, test=1))
    assert sizes(other) == [270, 0, 30]


def test_a_value_that_only_test_has_is_not_in_the_vocabulary(tmp_path):
    write(tmp_path / "a.csv", rows_of(4))
    write(tmp_path / "b.csv", [f"late,i99,{START + 10**6},1"])
    dataset, _ = prepared(tmp_path, "", '{ train = "a.csv", test = "b.csv" }')
    assert dataset.items["field.item"][-1] == 1  # unknown: i99 sorts last
    assert dataset.encoder.vocabularies["user"].size == 32


def test_parts_that_are_mixed_in_time_are_said_to_be(tmp_path):
    lines = list(rows_of(4))
    write(tmp_path / "a.csv", lines[::2])
    write(tmp_path / "b.csv", lines[1::2])
    _, manifest = prepared(tmp_path, "", '{ train = "a.csv", test = "b.csv" }')
    assert any("59 impressions of the part test" in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("files", "split", "error", "message"),
    [
        ('{ train = "clicks.csv", tets = "clicks.csv" }', "", SchemaError, "did you mean 'test'"),
        ('"clicks.csv"', 'kind = "files"', SchemaError, "needs the files of each part"),
        ('"clicks.csv"', 'kind = "column"', ConfigError, "name the column"),
        ('{ test = "clicks.csv" }', "", DataError, "no row belongs to the part train"),
    ],
)
def test_mistakes_in_parts_are_named(tmp_path, files, split, error, message):
    write(tmp_path / "clicks.csv", rows_of(3))
    with pytest.raises(error, match=message):
        prepared(tmp_path, f"[split]\n{split}\n" if split else "", files)


def test_a_split_that_the_data_set_was_not_prepared_with_is_refused(tmp_path):
    write(tmp_path / "clicks.csv", rows_of(5))
    dataset, _ = prepared(tmp_path, "")
    with pytest.raises(DataError, match="prepare the log again with this split"):
        open_dataset(dataset.path, Split(kind="files")).parts()


# --- logs without users or items


NOBODY = (
    'name = "ads"\nlabels = [{ name = "click", column = "clicked" }]\n[impressions]\nfiles = "clicks.csv"\n'
)


def test_without_users_every_row_is_one_and_no_history_is_shown(tmp_path):
    write(tmp_path / "clicks.csv", rows_of(4))
    toml = f'{NOBODY}item = "item_id"\nfields = [{{ name = "user_id" }}]\n'
    (tmp_path / "schema.toml").write_text(toml)
    manifest = prepare(load_log(tmp_path / "schema.toml"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.schema.absent == ("user",)
    assert (manifest.counts["users"], manifest.counts["behaviors"]) == (120, 0)
    assert not dataset.impressions["visible"].any()
    assert set(np.asarray(dataset.users["field.user"]).tolist()) == {2}  # one index, whoever it is
    assert len(set(dataset.impressions["item"].tolist())) == 7


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ('[split]\nkind = "user_last"\nvalid = 1\ntest = 1\n', ConfigError, "the log has no users"),
        ('[users]\nfields = [{ name = "user_id" }]\n', SchemaError, "needs a user, and the log has none"),
        ('[[statistics]]\nname = "r"\nby = ["user"]\n', SchemaError, "needs a user, and the log has none"),
        ('[[statistics]]\nname = "r"\nby = ["item"]\n', SchemaError, "needs a item, and the log has none"),
        ('order = "rows"\ntime = "t"\n', SchemaError, "stands for a missing time"),
        ('order = "lists"\nitem = "item_id"\n', SchemaError, "order = 'lists' but no user"),
        ('[behaviors]\nfiles = "clicks.csv"\n', SchemaError, "has behaviors.files but no user"),
        ('[history]\nitems = "item_id"\n', SchemaError, "has history but no user"),
    ],
)
def test_what_needs_a_user_or_an_item_is_refused_without_one(tmp_path, more, error, message):
    write(tmp_path / "clicks.csv", rows_of(4))
    (tmp_path / "schema.toml").write_text(NOBODY + more)
    with pytest.raises(error, match=message):
        prepare(load_log(tmp_path / "schema.toml"), tmp_path / "out")
