import errno
import fcntl
import os
from pathlib import Path

import pytest

from clickscale.data.layout import MANIFEST
from clickscale.errors import DataError
from clickscale.files import building


def build(out: Path, overwrite: bool = False, text: str = "new") -> None:
    with building(out, overwrite, MANIFEST) as folder:
        (folder / MANIFEST).write_text(text)


def test_the_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with building(tmp_path / "deep" / "out", False, MANIFEST) as folder:
        (folder / MANIFEST).write_text("new")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / MANIFEST).read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def fail(out: Path, error: Exception) -> None:
    with building(out, False, MANIFEST) as folder:
        (folder / "half").write_text("half")
        raise error


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        fail(tmp_path / "out", ValueError())
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    with pytest.raises(DataError, match="exists already"):
        build(tmp_path / "out")
    assert (tmp_path / "out" / MANIFEST).read_text() == "old"
    build(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / MANIFEST).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out")
    assert (tmp_path / "out" / MANIFEST).exists()


def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="not a prepared data set"):
        build(tmp_path / "out", overwrite=True)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        build(tmp_path / "file")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "out.partial" / "raw").mkdir(parents=True)
    (tmp_path / "out.partial" / "raw" / "litter").write_text("litter")
    (tmp_path / "out.partial" / "litter").write_text("litter")
    build(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    (tmp_path / "out").rename(tmp_path / "out.replaced")
    with pytest.raises(DataError, match="exists already"):
        build(tmp_path / "out")
    assert (tmp_path / "out" / MANIFEST).read_text() == "old"


def test_two_processes_cannot_build_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "theirs").write_text("theirs")
    handle = os.open(tmp_path / "out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="Another process"):
        build(tmp_path / "out")
    assert (tmp_path / "out.partial" / "theirs").exists()
    os.close(handle)


def test_a_full_disk_is_told_in_numbers_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is full .*more than the [\d,]+ bytes that were free"):
        fail(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(PermissionError):
        fail(tmp_path / "out", PermissionError(errno.EACCES, "no"))
    assert list(tmp_path.iterdir()) == []
