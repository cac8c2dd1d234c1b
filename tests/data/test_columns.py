from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.columns import NpyWriter, blocks, open_column, write_column


@pytest.mark.parametrize(("kind", "width"), [("i4", ()), ("f2", (3,)), ("u1", ()), ("i8", (2,))])
def test_a_column_written_in_pieces_is_one_array(tmp_path: Path, kind: str, width: tuple[int, ...]) -> None:
    whole = np.arange(7 * int(np.prod(width, dtype=int))).reshape(7, *width).astype(kind)
    with NpyWriter(tmp_path / "deep" / "column.npy", kind, width) as writer:
        for piece in (whole[:3], whole[3:3], whole[3:]):
            writer.append(piece)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "column.npy"), whole)
    assert open_column(tmp_path / "deep" / "column.npy").dtype == np.dtype(kind)


def test_a_column_without_rows_can_be_opened(tmp_path: Path) -> None:
    write_column(tmp_path / "empty.npy", np.zeros((0, 4), np.float16))
    assert open_column(tmp_path / "empty.npy").shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-1], "buffer is smaller than requested size"),
        (lambda data: data[:20], ""),
        (lambda data: b"", "EOF"),
        (lambda data: data.replace(b"'<i4'", b"'|O' "), "object"),
        (lambda data: data[:6] + b"\2" + data[7:], "another one"),
    ],
)
def test_a_damaged_column_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], problem: str) -> None:
    path = tmp_path / "column.npy"
    write_column(path, np.arange(3, dtype=np.int32))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"(?i){problem}"):
        open_column(path)


def test_columns_that_numpy_wrote_are_read_in_their_order(tmp_path: Path) -> None:
    whole = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "column.npy", whole)
    read = open_column(tmp_path / "column.npy")
    np.testing.assert_array_equal(read, whole)
    assert not read.flags.writeable


def test_rows_of_another_width_are_a_bug(tmp_path: Path) -> None:
    with (
        NpyWriter(tmp_path / "column.npy", "i4", (2,)) as writer,
        pytest.raises(AssertionError, match="rows of"),
    ):
        writer.append(np.zeros((1, 3)))


def test_blocks_cover_every_row_once() -> None:
    assert [(part.start, part.stop) for part in blocks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(0)) == []
