import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from clickscale.errors import ArtifactError, DamagedError, DataError
from clickscale.files import (
    FAILPOINT,
    FolderKind,
    array_on_disk,
    building,
    check_sizes,
    checksum,
    failpoint,
    file_entry,
    heal,
    remove_folder,
    replace_bytes,
    replace_text,
    replacing,
    sha256_of,
    sha256_text,
    sweep,
    system_error,
    verify,
)
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere

KIND = FolderKind("a prepared data set", DataError, "manifest.json")


def build(out: Path, overwrite: bool = False, text: str = "new") -> None:
    with building(out, KIND, overwrite=overwrite) as folder:
        (folder / KIND.marker).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- folders


def test_the_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with building(tmp_path / "deep" / "out", KIND) as folder:
        (folder / "manifest.json").write_text("new")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "manifest.json").read_text() == "new"
    assert names(tmp_path / "deep") == ["out"]


def fail(out: Path, error: Exception) -> None:
    with building(out, KIND) as folder:
        (folder / "half").write_text("half")
        raise error


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        fail(tmp_path / "out", ValueError())
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    with pytest.raises(
        DataError, match="exists already; choose another folder, or overwrite it with --overwrite"
    ):
        build(tmp_path / "out")
    with (
        pytest.raises(DataError, match=r"exists already; choose another folder\."),
        building(tmp_path / "out", KIND),
    ):
        pass  # a verb without --overwrite does not propose it
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    build(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="not a prepared data set"):
        build(tmp_path / "out", overwrite=True)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        build(tmp_path / "file")
    with pytest.raises(DataError, match="not a prepared data set"):
        build(tmp_path / "file", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_whose_name_the_program_chose_is_replaced_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "damaged").write_text("")
    with building(tmp_path / "out", FolderKind("a checkpoint", DataError), overwrite=True) as folder:
        (folder / "state").write_text("sound")
    assert names(tmp_path / "out") == ["state"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "out.partial" / "raw").mkdir(parents=True)
    (tmp_path / "out.partial" / "raw" / "litter").write_text("litter")
    (tmp_path / "out.partial" / "litter").write_text("litter")
    build(tmp_path / "out")
    assert names(tmp_path / "out") == ["manifest.json"]


def test_the_older_folder_that_a_killed_process_left_does_not_come_back(tmp_path: Path) -> None:
    build(tmp_path / "out", text="first")
    shutil.copytree(tmp_path / "out", tmp_path / "out.replaced")
    build(tmp_path / "out", overwrite=True, text="second")
    assert names(tmp_path) == ["out"]
    shutil.rmtree(tmp_path / "out")
    heal(tmp_path / "out")
    assert names(tmp_path) == []


def test_reader_and_writer_heal_what_was_killed_between_the_renames(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    for use in (heal, build):
        (tmp_path / "out").rename(tmp_path / "out.replaced")
        if use is build:
            with pytest.raises(DataError, match="exists already"):
                build(tmp_path / "out")
        else:
            heal(tmp_path / "out")
        assert (tmp_path / "out" / "manifest.json").read_text() == "old"
        assert names(tmp_path) == ["out"]


def test_a_reader_waits_for_a_living_process_between_its_renames(tmp_path: Path) -> None:
    build(tmp_path / "out", text="old")
    (tmp_path / "out").rename(tmp_path / "out.replaced")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "manifest.json").write_text("new")
    handle = os.open(tmp_path / "out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    reader = threading.Thread(target=heal, args=(tmp_path / "out",))
    reader.start()
    time.sleep(0.1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.partial").rename(tmp_path / "out")
    os.close(handle)
    reader.join()
    assert (tmp_path / "out" / "manifest.json").read_text() == "new"


def test_a_second_rename_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "out", text="old")
    rename = os.rename

    def refuse(source: Path, goal: Path) -> None:
        if str(source).endswith(".partial"):
            raise PermissionError(errno.EACCES, "no")
        rename(source, goal)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        build(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_two_processes_cannot_build_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "theirs").write_text("theirs")
    handle = os.open(tmp_path / "out.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="being built by another process"):
        build(tmp_path / "out")
    assert (tmp_path / "out.partial" / "theirs").exists()
    sweep(tmp_path)
    assert (tmp_path / "out.partial" / "theirs").exists()
    os.close(handle)
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_file_system_without_locks_is_used_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    build(tmp_path / "out")
    replace_text(tmp_path / "file", "text")
    assert names(tmp_path) == ["file", "out"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Quota exceeded"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_in_numbers(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DataError, match=r"is full: a prepared .*more than the [\d,]+ bytes that were free"):
        fail(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("older")
    with (
        pytest.raises(OSError, match=r"nothing was changed; free some space") as caught,
        replacing(tmp_path / "file"),
    ):
        raise error
    assert (caught.value.filename, names(tmp_path)) == (str(tmp_path / "file"), ["file"])
    assert (tmp_path / "file").read_text() == "older"


def test_a_file_beyond_a_limit_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"out cannot be written: a file of a prepared .* ulimit -f, allows"):
        fail(tmp_path / "out", OSError(errno.EFBIG, "File too large"))


def test_an_array_takes_its_room_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = array_on_disk(tmp_path / "array.npy", np.int16, (7, 3))
    assert (array.shape, array.dtype, array.any()) == ((7, 3), np.int16, False)
    array[2] = 5
    assert np.load(tmp_path / "array.npy").sum() == 15
    assert (tmp_path / "array.npy").stat().st_blocks > 0

    def full(handle: int, start: int, size: int) -> None:
        if (start, size) == (0, os.fstat(handle).st_size):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        array_on_disk(tmp_path / "array.npy", np.int16, (7, 3))
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    assert not array_on_disk(tmp_path / "array.npy", np.int16, (7, 3)).any()


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), SafetensorError("os error 280")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        fail(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_the_errors_are_of_the_class_that_the_kind_names(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("")
    with (
        pytest.raises(ArtifactError, match="exists already"),
        building(tmp_path / "out", FolderKind("an artifact", ArtifactError, "weights")),
    ):
        pass


def test_a_removed_folder_leaves_nothing(tmp_path: Path) -> None:
    build(tmp_path / "out")
    remove_folder(tmp_path / "out")
    assert names(tmp_path) == []


def test_litter_is_swept_and_everything_else_stays(tmp_path: Path) -> None:
    for name in ("a.partial", "b.replaced", "b", "c.replaced", "d.removed", "e"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
    (tmp_path / "f").write_text("f")
    sweep(tmp_path)
    assert names(tmp_path) == ["b", "c", "e", "f"]
    assert (tmp_path / "b" / "manifest.json").read_text() == "b"
    assert (tmp_path / "c" / "manifest.json").read_text() == "c.replaced"


BUILD = """
from clickscale.errors import DataError
from clickscale.files import FolderKind, building, heal

def build(folder, text):
    with building(folder / "out", FolderKind("a", DataError, "one"), overwrite=True) as partial:
        (partial / "deep").mkdir()
        for name in ("one", "two", "deep/three"):
            (partial / name).write_text(text)

def start(folder):
    build(folder, "old")

def act(folder):
    build(folder, "new")
"""


def test_death_at_any_moment_of_building_leaves_the_older_or_the_newer_folder(
    tmp_path: Path, command_server: CommandServer
) -> None:
    killed = killed_everywhere(BUILD, tmp_path, command_server)
    assert len(killed) > 12
    found = []
    for place in killed:
        heal(place / "out")
        texts = {(place / "out" / name).read_text() for name in ("one", "two", "deep/three")}
        assert len(texts) == 1
        found += texts
        assert "out.replaced" not in names(place) or found[-1] == "new"
        with building(place / "out", FolderKind("a", DataError, "one"), overwrite=True) as partial:
            (partial / "one").write_text("newest")
        assert names(place) == ["out"]
    assert found == sorted(found, key=("old", "new").index)
    assert set(found) == {"old", "new"}


# --- files


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    replace_text(tmp_path / "file", "a\nä")
    replace_bytes(tmp_path / "file", b"b")
    assert (tmp_path / "file").read_bytes() == b"b"
    assert names(tmp_path) == ["file"]


def test_an_error_while_writing_leaves_the_older_file(tmp_path: Path) -> None:
    replace_text(tmp_path / "file", "old")

    def fail_halfway() -> None:
        with replacing(tmp_path / "file") as partial:
            partial.write_text("half")
            raise ValueError

    with pytest.raises(ValueError):
        fail_halfway()
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_tensors_are_written_for_everybody_who_may_read_the_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as partial:
        save_file({"x": np.arange(3)}, partial)
    assert load_file(tmp_path / "file")["x"].tolist() == [0, 1, 2]
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_litter_of_a_killed_writer_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "file.partial").mkdir()
    (tmp_path / "file.partial" / "file").write_text("a long half")
    (tmp_path / "file.partial" / "other").write_text("of the writer of tensors")
    with replacing(tmp_path / "file") as partial, partial.open("a") as stream:
        stream.write("new")
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["folder", "pipe"])
def test_only_a_file_is_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="not a regular file"):
        replace_text(tmp_path / name, "text")
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_text(tmp_path / "no" / "file", "text")


def test_two_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    inside = threading.Event()

    def slow() -> None:
        with replacing(tmp_path / "file") as partial:
            inside.set()
            time.sleep(0.2)
            partial.write_text("slow")

    writer = threading.Thread(target=slow)
    writer.start()
    inside.wait()
    replace_text(tmp_path / "file", "fast")
    writer.join()
    assert (tmp_path / "file").read_text() == "fast"
    assert names(tmp_path) == ["file"]


REPLACE = """
from clickscale.files import replace_text

def start(folder):
    replace_text(folder / "file", "old" * 10_000)

def act(folder):
    replace_text(folder / "file", "new" * 10_000)
"""


def test_death_at_any_moment_of_replacing_leaves_the_older_or_the_newer_file(
    tmp_path: Path, command_server: CommandServer
) -> None:
    found = [(place / "file").read_text() for place in killed_everywhere(REPLACE, tmp_path, command_server)]
    assert found == ["old" * 10_000] * 3 + ["new" * 10_000] * 2  # at mkdir, fsync, replace; fsync, rmdir


# --- hashes


def test_hashes_are_those_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    assert checksum(tmp_path / "file") == hashlib.sha256(b"some bytes").hexdigest()
    assert checksum(tmp_path / "file", "md5") == hashlib.md5(b"some bytes").hexdigest()
    assert sha256_text("ä") == hashlib.sha256("ä".encode()).hexdigest()
    assert sha256_of([b"some ", memoryview(b"bytes")]) == checksum(tmp_path / "file")
    assert file_entry(tmp_path / "file").bytes == 10


def test_a_missing_a_cut_and_a_changed_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    files = {"file": file_entry(path)}
    verify(tmp_path, files, "copy it again")
    path.write_bytes(b"same bytes")
    check_sizes(tmp_path, files, "copy it again")
    with pytest.raises(DamagedError, match=r"file is damaged: sha256 \w{64}, expected \w{64}; copy it again"):
        verify(tmp_path, files, "copy it again")
    path.write_bytes(b"some")
    with pytest.raises(DamagedError, match="file is damaged: 4 bytes instead of 10; copy it again"):
        check_sizes(tmp_path, files, "copy it again")
    path.unlink()
    with pytest.raises(DamagedError, match="file is missing; copy it again"):
        verify(tmp_path, files, "copy it again")


# --- failpoints


def test_nothing_happens_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAILPOINT, raising=False)
    failpoint("here")
    monkeypatch.setenv(FAILPOINT, "there:enospc")
    failpoint("here")


def test_a_full_disk_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAILPOINT, "here:enospc")
    with pytest.raises(OSError, match="No space left") as caught:
        failpoint("here")
    assert caught.value.errno == errno.ENOSPC


def test_an_error_of_the_system_is_told_with_its_files_and_without_its_number() -> None:
    assert system_error(PermissionError(13, "Permission denied", "a.csv")) == "a.csv: Permission denied"
    assert system_error(OSError(18, "Cross-device link", "a", None, "b")) == "a to b: Cross-device link"
    assert system_error(OSError(28, "No space left on device")) == "No space left on device"
    assert system_error(OSError("anything")) == system_error(ValueError("anything")) == "anything"
