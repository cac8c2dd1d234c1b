import json
from pathlib import Path

import pytest

from clickscale.cli import main
from clickscale.demo import steps


def test_a_demo_that_is_stopped_hands_on_the_exit_code_of_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(demo: steps.Demo) -> None:
        raise steps.DemoStopped(143)

    monkeypatch.setattr(steps.Demo, "prepare", lambda demo, source, progress: None)
    monkeypatch.setattr(steps.Demo, "run", stop)
    assert main(["demo", "--out", str(tmp_path)]) == 143


def test_demo_files_writes_the_example_tables_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--files", "shop"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == ["shop/clicks.csv", "shop/items.csv", "shop/users.csv"]
    assert "next: clickscale schema guess shop/clicks.csv" in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]
    assert main(["demo", "--files", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": printed.out.split()}


def test_a_demo_that_finds_no_log_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["demo", "--source", "empty"]) == 2
    assert "u.data" in capsys.readouterr().err
    assert not (tmp_path / "clickscale-demo" / "prepared").exists()
