import json
from pathlib import Path
from typing import Any

import pytest

from clickscale.cli import bench, main
from clickscale.cli.bench import _numbers
from tests.trained import LENGTH, tiny_artifact, tiny_prepared

QUICK = ("--candidates", "3,1", "--lengths", "5,60", "--repeats", "3", "--seconds", "0")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    return tiny_artifact(folder, tiny_prepared(folder), "suan")


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.wide
def test_a_table_a_plot_and_json_come_out(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_BUSY", 1e9)  # as on a machine that others use
    out = tmp_path / "new" / "bench"
    assert main(["bench", "scoring", str(artifact), *QUICK, "--out", str(out)]) == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert ["5", "1"] in [line[:2] for line in lines]
    assert ["60*", "3"] in [line[:2] for line in lines]
    for word in ("one by one", "parallel", "cached", "appended", "score-only", "1 thread"):
        assert word in told.out
    assert f"* longer than the {LENGTH} behaviors" in told.out
    assert "~ measured on fewer candidates" in told.out
    assert "Others kept the machine busy: this process had" in told.out
    kept = json.loads((out / "scoring.json").read_text("utf-8"))
    assert (kept["model"], kept["threads"], kept["trained"]) == ("suan", 1, LENGTH)
    assert [(cell["length"], cell["candidates"]) for cell in kept["cells"]] == [
        (5, 1),
        (5, 3),
        (60, 1),
        (60, 3),
    ]
    assert "L = 60*" in (out / "scoring.svg").read_text("utf-8")

    assert main(["bench", "scoring", str(artifact), *QUICK, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["bench", "scoring", str(artifact), *QUICK, "--out", str(out), "--overwrite", "--json"]) == 0
    assert document(capsys)["states"][1]["length"] == 60


def test_a_bench_without_a_folder_writes_nothing(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "scoring", str(artifact), *QUICK, "--json"]) == 0
    assert max(state["gap"] for state in document(capsys)["states"]) <= 1e-5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--candidates", "1,x"], "--candidates is '1,x'; give whole numbers of 1 to 100,000"),
        (["--lengths", "2000000000"], "--lengths is '2000000000'; give whole numbers of 2 to 100,000"),
        (["--candidates", "0"], "numbers of 1 to"),
        (["--lengths", ","], "--lengths is ','"),
        (["--lengths", "1,50"], "numbers of 2 to"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    arguments: list[str], told: str, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "scoring", str(artifact), *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_artifact_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scoring", str(tmp_path / "nothing")]) == 2
    assert "is not an artifact" in capsys.readouterr().err


def test_numbers_are_sorted_and_taken_once() -> None:
    assert _numbers("lengths", "200, 50,200,", 2) == [50, 200]
