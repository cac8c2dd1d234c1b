"""The journal of a search: whole whenever its process dies, and refused for another search."""

import json
from pathlib import Path

import pytest

from clickscale.config_text import override
from clickscale.errors import RunError
from clickscale.training.run.run_config import TrainConfig
from clickscale.tuning.journal import JOURNAL, Journal, Piece
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere


def data_of(folder: Path) -> TrainConfig:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/manifest.json").write_text("{}")
    return TrainConfig(model="din", data=str(folder / "data"))


def piece(trial: int, seed: int = 0, seconds: float = 1.5) -> Piece:
    return Piece(trial=trial, seed=seed, losses=(0.6, None), over=False, seconds=seconds)


def test_pieces_come_back(tmp_path: Path) -> None:
    config = data_of(tmp_path)
    journal = Journal(tmp_path / "out", config)
    for one in (piece(0), piece(0, seconds=2.0), piece(0, seed=1), piece(1)):
        journal.add(one)
    again = Journal(tmp_path / "out", override(config, ["threads=3"]))
    assert again.pieces == journal.pieces
    assert (again.seconds(), again.seconds_of(0, 0)) == (6.5, 3.5)
    assert again.last(0, 0) == piece(0, seconds=2.0)
    assert again.last(2, 0) is None


def test_another_search_is_refused(tmp_path: Path) -> None:
    config = data_of(tmp_path)
    Journal(tmp_path / "out", config)
    with pytest.raises(RunError, match=r"another search: length is 100, not 50.*the same options"):
        Journal(tmp_path / "out", override(config, ["length=50"]))
    (tmp_path / "data/manifest.json").write_text('{"other": 1}')
    with pytest.raises(RunError, match="other data"):
        Journal(tmp_path / "out", config)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    config = data_of(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not empty and holds no search"):
        Journal(tmp_path / "out", config)


KILLED = """
from clickscale.tuning.journal import Journal
from tests.tuning.test_journal import data_of, piece

def start(folder):
    data_of(folder)
    Journal(folder / "out", data_of(folder)).add(piece(0))

def act(folder):
    Journal(folder / "out", data_of(folder)).add(piece(1))
"""


def test_a_journal_is_whole_whenever_its_process_is_killed(
    tmp_path: Path, command_server: CommandServer
) -> None:
    found = []
    for folder in killed_everywhere(KILLED, tmp_path, command_server):
        lines = [json.loads(line) for line in (folder / "out" / JOURNAL).read_text().splitlines()]
        found.append([line["trial"] for line in lines[1:-1]])
        Journal(folder / "out", data_of(folder)).add(piece(2))
    assert {str(trials) for trials in found} == {"[0]", "[0, 1]"}


def test_a_search_killed_before_its_first_line_begins_again(tmp_path: Path) -> None:
    config = data_of(tmp_path)
    (tmp_path / "out" / f"{JOURNAL}.partial").mkdir(parents=True)
    assert Journal(tmp_path / "out", config).pieces == []
