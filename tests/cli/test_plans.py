"""The verbs ``laws`` and ``plan``."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from clickscale.cli import main
from clickscale.cli.lab.plans import milliseconds
from clickscale.errors import ConfigError
from clickscale.scaling import laws
from clickscale.scaling.laws import Laws
from clickscale.scaling.points import Sweep
from tests.scaling.planted import write_planted_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_planted_sweep(tmp_path_factory.mktemp("sweep")))


@pytest.fixture(scope="module", autouse=True)
def fitted_once() -> Iterator[None]:
    """Fit a sweep once for all verbs, which takes seconds."""
    fit, known = laws.fit_sweep, dict[tuple[Path, float], Laws]()

    def remembered(sweep: Sweep, folder: Path, *, level: float) -> Laws:
        if (folder, level) not in known:
            known[folder, level] = fit(sweep, folder, level=level)
        return known[folder, level]

    with patch.object(laws, "fit_sweep", remembered):
        yield


def test_laws_are_printed_and_stored(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", "--sweep", sweep]) == 0
    shown = capsys.readouterr()
    assert "synthetic points" in shown.out
    assert "holds up to 2 times beyond the points" in shown.out
    assert "these points do not determine it: the measure does not rise" in shown.out
    assert "Joint law" in shown.out
    assert (Path(sweep) / "laws.json").is_file()


def test_a_plan_names_student_teacher_and_what_is_refused(
    sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--sweep", sweep, "--latency", "20ms", "--train-hours", "100"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "suan:size-3:200" in shown.out
    assert "--teacher suan:size-4:100 --student suan:size-3:200" in shown.err
    assert main([*words, "--more", "8", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["student"]["grade"] == "size-3"
    assert any("supports data up to" in one["refusal"] for one in plan["doublings"])


def test_a_folder_without_points_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", "--sweep", str(tmp_path)]) == 2
    assert "holds no scaling.json" in capsys.readouterr().err


def test_times_have_units() -> None:
    assert [milliseconds(text) for text in ("10ms", "0.1s", " 2.5 ms ")] == [10.0, 100.0, 2.5]
    for text in ("10", "ten", "-1ms", "10min"):
        with pytest.raises(ConfigError, match="is not a time; write 10ms"):
            milliseconds(text)
