"""Files of item vectors in every format hold the same rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from clickscale.data.content.vector_files import open_vectors
from clickscale.errors import InputError

IDS = [7, 5, 9]
ROWS = [[1.0, 2.0], [3.0, -4.0], [0.5, 0.25]]


def everything(file):
    """Ids, vectors, given, fits of all blocks."""
    blocks = list(file.blocks())
    ids = [str(one) for block in blocks for one in block.ids.to_pylist()]
    parts = [
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("vectors", "present", "fits")
    ]
    return ids, *(part.tolist() for part in parts)


def write(path):
    matrix, ids = np.array(ROWS, np.float32), np.array(IDS)
    text = [" ".join(map(str, row)) for row in ROWS]
    match path.name:
        case "v.npy":
            np.save(path, matrix)
            np.save(path.with_name("ids.npy"), ids)
        case "v.npz":
            np.savez(path, item=ids, vectors=matrix)
        case "v.safetensors":
            save_file({"item": ids, "vectors": matrix}, path)
        case "lists.parquet":
            pq.write_table(pa.table({"item": IDS, "vector": ROWS}), path)
        case "fixed.parquet":
            flat = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), 2)
            pq.write_table(pa.table({"vector": flat, "item": IDS}), path)
        case "columns.parquet":
            pq.write_table(pa.table({"item": IDS, "a": matrix[:, 0], "b": matrix[:, 1]}), path)
        case "columns.csv":
            path.write_text(
                "item,a,b\n" + "".join(f"{i},{a},{b}\n" for i, (a, b) in zip(IDS, ROWS, strict=True))
            )
        case "text.csv":
            path.write_text("item,vector\n" + "".join(f"{i},{t}\n" for i, t in zip(IDS, text, strict=True)))
        case "v.jsonl":
            rows = [json.dumps({"item": i, "vector": row}) for i, row in zip(IDS, ROWS, strict=True)]
            path.write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("v.npy", ""),
        ("v.npz", ""),
        ("v.safetensors", ""),
        ("lists.parquet", ""),
        ("fixed.parquet", ""),
        ("columns.parquet", ""),
        ("columns.csv", ""),
        ("text.csv", "vector"),
        ("v.jsonl", ""),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path, name, column):
    path = tmp_path / name
    write(path)
    ids = tmp_path / "ids.npy" if path.suffix == ".npy" else None
    file = open_vectors(path, "item", ids=ids, column=column)
    assert file.width == 2
    assert everything(file) == (["7", "5", "9"], ROWS, [True] * 3, [True] * 3)
    assert everything(file) == everything(file), "every pass begins at the start"


def test_rows_of_another_width_and_missing_ones_are_told_apart(tmp_path):
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"item": [1, 2, 3, 4], "v": [[1.0, 2.0], [1.0], None, [3.0, None]]}), path)
    _, vectors, given, fits = everything(open_vectors(path, "item"))
    assert (given, fits) == ([True, True, False, True], [True, False, False, True])
    assert vectors[0] == [1, 2]
    assert np.isnan(vectors[1:3]).all()
    assert np.isnan(vectors[3][1])


def test_brackets_and_commas_in_text_are_read(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text('item,v\n1,"[0.5, -1e-3]"\n2,"(2;3)"\n3,\n4,"[1, x]"\n')
    _, vectors, given, _ = everything(open_vectors(path, "item", column="v"))
    assert vectors[:2] == [[0.5, pytest.approx(-1e-3)], [2.0, 3.0]]
    assert given == [True, True, False, True]
    assert np.isnan(vectors[3][1])


def test_a_large_matrix_comes_in_blocks(tmp_path):
    matrix = np.arange(3 * 2**20, dtype=np.float32).reshape(3, -1)
    np.save(tmp_path / "v.npy", matrix)
    np.save(tmp_path / "ids.npy", np.array(["a", "b", "c"]))
    blocks = list(open_vectors(tmp_path / "v.npy", "", ids=tmp_path / "ids.npy").blocks())
    assert [block.ids.to_pylist() for block in blocks] == [["a"], ["b"], ["c"]]
    assert all((block.vectors[0] == row).all() for block, row in zip(blocks, matrix, strict=True))


def refused(path, message, **options):
    with pytest.raises(InputError, match=message):
        list(open_vectors(path, options.pop("key", "item"), **options).blocks())


def test_a_file_that_does_not_fit_is_named_with_what_it_holds(tmp_path):
    write(tmp_path / "v.npy")
    refused(tmp_path / "v.npy", "--ids")
    np.savez(tmp_path / "two.npz", item=np.arange(2), a=np.eye(2), b=np.eye(2))
    refused(tmp_path / "two.npz", "2 matrices")
    refused(tmp_path / "two.npz", "array of ids 'movie'", key="movie")
    refused(tmp_path / "two.npz", "Unknown array 'c'", column="c")
    np.savez(tmp_path / "short.npz", item=np.arange(3), a=np.eye(2))
    refused(tmp_path / "short.npz", "ids for the 2 vectors")
    np.savez(tmp_path / "objects.npz", item=np.arange(1), a=np.array([{"a": 1}], object))
    refused(tmp_path / "objects.npz", "Cannot read")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    refused(tmp_path / "broken.safetensors", "Cannot read")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    refused(tmp_path / "broken.npz", "Cannot read")
    (tmp_path / "array.npz").write_bytes((tmp_path / "v.npy").read_bytes())
    refused(tmp_path / "array.npz", r"one array.*\.npy")
    refused(tmp_path / "absent.npz", "Cannot read")
    pq.write_table(pa.table({"item": [1], "a": [[1.0]], "b": [[1.0]]}), tmp_path / "two.parquet")
    refused(tmp_path / "two.parquet", "--column")
    refused(tmp_path / "two.parquet", "Unknown column 'movie'", key="movie")
    (tmp_path / "ids.csv").write_text("item\n1\n")
    refused(tmp_path / "ids.csv", "shows no vectors")
    (tmp_path / "empty.csv").write_text("item,a\n")
    refused(tmp_path / "empty.csv", "no rows")
