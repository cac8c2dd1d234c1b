"""Vectors of a file as a content feature: what is kept, what is counted, what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.content.vector_files import open_vectors
from clickscale.data.content.vectors import VectorColumn, import_vectors
from clickscale.data.dataset import open_dataset
from clickscale.errors import InputError, SchemaError
from tests.data.tiny import tiny_dataset, tiny_source

ITEMS = [10 * (i + 1) for i in range(12)]  # ids of the tiny log; their rows in the item table are 2, 3, ...


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("log")))


def vectors(path, rows):
    """A Parquet file of (item, vector) rows."""
    table = {"item": [item for item, _ in rows], "v": [vector for _, vector in rows]}
    pq.write_table(pa.table(table), path)
    return open_vectors(path, "item")


def test_vectors_become_a_float16_column_of_length_one(dataset, tmp_path):
    file = vectors(tmp_path / "v.parquet", [(item, [3.0, 4.0 * (-1) ** item]) for item in ITEMS[::-1]])
    summary = import_vectors(dataset, file, "picture", tmp_path / "out")
    new = open_dataset(tmp_path / "out")
    new.verify()
    column = new.items["field.picture"]
    assert column.dtype == np.float16
    assert column[2:].tolist() == [[np.float16(0.6), np.float16(0.8)]] * 12
    assert not column[:2].any()
    feature = new.features.item[-1]
    assert (feature.name, feature.kind, feature.width) == ("picture", "content", 2)
    assert (summary.width, summary.items, summary.missing, summary.table.kept) == (2, 12, 0, 12)
    facts = json.loads((tmp_path / "out" / "content" / "picture.json").read_text())
    assert (facts["file"], facts["normalized"], facts["missing_items"]) == ("v.parquet", True, 0)


def test_lengths_can_be_kept(dataset, tmp_path):
    file = vectors(tmp_path / "v.parquet", [(10, [3.0, 4.0])])
    import_vectors(dataset, file, "picture", tmp_path / "out", normalize=False)
    assert open_dataset(tmp_path / "out").items["field.picture"][2].tolist() == [3, 4]


def test_every_row_is_kept_or_counted_under_its_reason(dataset, tmp_path):
    rows = [
        (10, [1.0, 0.0]),
        (20, [0.0, 2.0]),
        (30, [1.0]),  # another width
        (40, [np.nan, 1.0]),
        (50, [np.inf, 1.0]),
        (60, [0.0, 0.0]),
        (70, None),
        (10, [5.0, 5.0]),  # again
        (999, [1.0, 1.0]),
        (None, [1.0, 1.0]),
        (-3, [1.0, 1.0]),
        (80, [1.0, 1.0]),
        (90, [1.0, 1.0]),
        (100, [1.0, 1.0]),
    ]
    out = tmp_path / "out"
    summary = import_vectors(dataset, vectors(tmp_path / "v.parquet", rows), "p", out, max_quarantined=0.9)
    table = summary.table
    assert table.quarantined == {
        "bad_vector": 1,
        "duplicate_item": 1,
        "negative_id": 1,
        "non_finite": 2,
        "null_item": 1,
        "null_vector": 1,
        "unknown_item": 1,
        "zero_vector": 1,
    }
    assert table.rows == len(rows) == table.kept + sum(table.quarantined.values())
    assert summary.missing == 12 - 5
    new = open_dataset(out)
    assert new.manifest.report["content.p"] == table
    assert new.items["field.p"][2].tolist() == [1, 0], "the first vector of an item stands"
    assert not new.items["field.p"][4:9].any(), "what was not usable is zero"
    shown = [json.loads(line) for line in (out / "quarantine" / "content.p.jsonl").read_text().splitlines()]
    assert {"row": 2, "reason": "bad_vector", "column": "item", "value": "30"} in shown


def test_an_item_that_a_later_block_repeats_is_counted(dataset, tmp_path):
    wide = 1 << 20  # one row is one block
    matrix = np.zeros((2, wide), np.float32)
    matrix[0, 0] = matrix[1, 1] = 1
    np.save(tmp_path / "v.npy", matrix)
    np.save(tmp_path / "ids.npy", np.array([10, 10]))
    file = open_vectors(tmp_path / "v.npy", "", ids=tmp_path / "ids.npy")
    summary = import_vectors(dataset, file, "p", tmp_path / "out")
    assert summary.table.quarantined == {"duplicate_item": 1}
    assert open_dataset(tmp_path / "out").items["field.p"][2, :2].tolist() == [1, 0]


def test_ids_that_are_text_join_as_text(tmp_path):
    dataset = open_dataset(tiny_dataset(tmp_path, tiny_source(string_ids=True)))
    file = vectors(tmp_path / "v.parquet", [("i10", [1.0, 0.0]), ("i999", [1.0, 0.0])])
    summary = import_vectors(dataset, file, "p", tmp_path / "out")
    assert (summary.missing, summary.table.quarantined) == (11, {"unknown_item": 1})


def test_a_file_of_which_hardly_anything_can_be_used_is_refused(dataset, tmp_path):
    strangers = vectors(tmp_path / "strangers.parquet", [(1, [1.0]), (2, [1.0])])
    with pytest.raises(
        InputError, match=r"0 of 2 vectors.*unknown_item 2\. Ids of the data set look like 10"
    ):
        import_vectors(dataset, strangers, "p", tmp_path / "out")
    broken = vectors(tmp_path / "broken.parquet", [(10, [1.0]), (20, [np.nan]), (30, [np.nan])])
    with pytest.raises(InputError, match="non_finite 2"):
        import_vectors(dataset, broken, "p", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert import_vectors(dataset, broken, "p", tmp_path / "out", max_quarantined=0.7).missing == 11


def test_vectors_of_many_items_that_the_log_does_not_have_are_no_mistake(dataset, tmp_path):
    rows = [(10, [1.0])] + [(1000 + i, [1.0]) for i in range(50)]
    assert import_vectors(dataset, vectors(tmp_path / "v.parquet", rows), "p", tmp_path / "out").missing == 11


def test_a_name_that_is_taken_is_refused_before_anything_is_read(dataset, tmp_path):
    file = vectors(tmp_path / "v.parquet", [(10, [1.0])])
    with pytest.raises(SchemaError, match="already has a field 'text'"):
        import_vectors(dataset, file, "text", tmp_path / "out")


def test_numbers_beyond_float16_are_not_finite_unless_scaled(tmp_path):
    (tmp_path / "items").mkdir()
    big = np.array([[1e6, 0.0]], np.float32)
    scaled, kept = (VectorColumn(tmp_path, name, 3, 2, name == "a") for name in "ab")
    assert scaled.prepared(big).tolist() == [[1, 0]]
    assert not np.isfinite(kept.prepared(big)).all()
    scaled.close()
    kept.close()
