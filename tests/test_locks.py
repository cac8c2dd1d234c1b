"""One writer of a folder: the lock, the name beside it, and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clickscale.errors import DataError, RunError
from clickscale.files import FolderKind, building
from clickscale.locks import WRITER, holder, is_empty, one_writer

HOLDING = """
import sys, time
from pathlib import Path
from clickscale.errors import RunError
from clickscale.files import FolderKind, building
from clickscale.locks import one_writer
how = one_writer if sys.argv[1] == "run" else lambda path, error: building(path, FolderKind("a", error))
with how(Path(sys.argv[2]), RunError) as place:
    if place:
        (place / "half").write_text("built so far")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds ``tmp_path/out``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, request.param, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("held", ["run"], indirect=True)
def test_a_second_writer_is_refused_by_the_name_of_the_first(
    held: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    name = (
        rf"written by process {held.pid} on \S+ \(since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\); wait for it"
    )
    with pytest.raises(RunError, match=name), one_writer(tmp_path / "out", RunError):
        raise AssertionError("two writers")


@pytest.mark.parametrize("held", ["run"], indirect=True)
def test_a_killed_writer_stops_nobody(
    held: "subprocess.Popen[str]", tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held.send_signal(signal.SIGKILL)
    held.wait()
    assert (tmp_path / "out" / WRITER).is_file()
    assert is_empty(tmp_path / "out")
    with caplog.at_level("INFO", "clickscale"), one_writer(tmp_path / "out", RunError):
        assert str(os.getpid()) in holder(tmp_path / "out")
    assert f"left by process {held.pid}" in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("held", ["build"], indirect=True)
def test_a_folder_that_is_being_built_names_its_builder(
    held: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    kind = FolderKind("a data set", DataError)
    refused = pytest.raises(DataError, match=f"out is being built by process {held.pid} on ")
    with refused, building(tmp_path / "out", kind):
        raise AssertionError("two builders")
    held.kill()
    held.wait()
    with building(tmp_path / "out", kind) as partial:
        assert [path.name for path in partial.iterdir()] == [WRITER]
        (partial / "whole").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_steps_of_one_piece_of_work_share_the_lock_and_threads_do_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with one_writer(tmp_path / "out", RunError):
                pass
        except RunError as error:
            refused.append(str(error))

    with one_writer(tmp_path / "out", RunError), one_writer(tmp_path / "out", RunError):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in refused[0]
    other()
    assert len(refused) == 1


def test_a_folder_that_stays_empty_goes_and_one_with_a_file_stays(tmp_path: Path) -> None:
    with one_writer(tmp_path / "a" / "b", RunError):
        pass
    assert list(tmp_path.iterdir()) == []
    with one_writer(tmp_path / "a" / "b", RunError):
        (tmp_path / "a" / "b" / "file").write_text("")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(RunError, match="file cannot be written: File exists; choose another folder")
    with refused, one_writer(tmp_path / "file", RunError):
        raise AssertionError("it is a file")


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"\xff", b'{"pid": 1}'])
def test_a_name_that_cannot_be_read_is_another_process(tmp_path: Path, left: bytes) -> None:
    (tmp_path / WRITER).write_bytes(left)
    assert holder(tmp_path) == "another process"
    with one_writer(tmp_path, RunError):
        assert str(os.getpid()) in holder(tmp_path)
