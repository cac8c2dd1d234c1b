"""Frozen vectors of items in .npy files."""

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.tables.matrices import load_content
from clickscale.errors import InputError


def saved(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder / "vectors.npy", folder / "ids.npy"


def test_vectors_join_by_id_and_items_without_one_are_missing(tmp_path):
    paths = saved(tmp_path, vectors=np.array([[1, 2], [3, 4]], np.float16), ids=np.array([7, 5]))
    content = load_content(*paths)
    column = content.column(pa.array([5, 6, None, 7]))
    assert content.width == 2
    assert column.type == pa.list_(pa.float32(), 2)
    assert column.to_pylist() == [[3, 4], None, None, [1, 2]]


def test_ids_of_another_type_compare_as_text(tmp_path):
    content = load_content(*saved(tmp_path, vectors=np.eye(2), ids=np.array([7, 5])))
    assert content.column(pa.array(["5", "x"])).to_pylist() == [[0, 1], None]


@pytest.mark.parametrize(
    ("vectors", "ids", "message"),
    [
        (np.eye(2), np.arange(3), "ids for the 2 vectors"),
        (np.arange(4.0), np.arange(4), r"shape \(4,\)"),
        (np.eye(2, dtype=np.int64), np.arange(2), "floats"),
        (np.array([{"a": 1}], object), np.arange(1), "Cannot read"),
    ],
)
def test_arrays_that_do_not_fit_are_errors_and_objects_are_never_unpickled(tmp_path, vectors, ids, message):
    with pytest.raises(InputError, match=message):
        load_content(*saved(tmp_path, vectors=vectors, ids=ids))


def test_missing_and_damaged_files_are_named(tmp_path):
    vectors, ids = saved(tmp_path, vectors=np.eye(2), ids=np.arange(2))
    vectors.write_bytes(vectors.read_bytes()[:60])
    with pytest.raises(InputError, match=r"vectors\.npy"):
        load_content(vectors, ids)
    with pytest.raises(InputError, match=r"absent\.npy"):
        load_content(tmp_path / "absent.npy", ids)
