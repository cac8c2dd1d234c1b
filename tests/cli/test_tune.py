"""The verb ``tune``."""

import json
import tomllib
from pathlib import Path

import pytest

from clickscale.cli import main
from clickscale.cli.lab.tune import seconds_of
from clickscale.errors import ConfigError
from tests.data.tiny import tiny_dataset, tiny_source


def test_a_budget_is_a_number_and_a_unit() -> None:
    assert [seconds_of(text) for text in ("90s", "10m", "2h", "1.5h", " 5m ")] == [90, 600, 7200, 5400, 300]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("10", "has no unit"),
        ("10d", "has the unit 'd'"),
        ("10min", "has the unit 'min'"),
        ("ten minutes", "is not a time"),
        ("-5m", "is not a time"),
        ("", "is not a time"),
        ("0m", "is no time at all"),
    ],
)
def test_a_wrong_budget_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong) as caught:
        seconds_of(text)
    assert repr(text) in str(caught.value)


def test_a_search_prints_a_table_or_a_document_and_its_file_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tiny_dataset(tmp_path, tiny_source(impressions=160)))
    out = str(tmp_path / "tuned")
    flags = ["--grade", "size-1", "--length", "8", "--set", "model.head.hidden=[8]", "--seed", "3"]
    command = ["tune", "--data", data, "--model", "din", "--out", out, "--trials", "1", *flags]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == f"{out}/tuned.toml"
    assert (found["trials"][0]["trial"], found["trials"][0]["changes"]) == (0, {})
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "the recipe" in printed.out
    assert "the test part was not read" in printed.err
    assert "Warning: The model was trained for" in printed.err
    options = tomllib.loads((tmp_path / "tuned/tuned.toml").read_text())
    assert (options["grade"], options["seed"], options["model"]["head"]["hidden"]) == ("size-1", 3, [8])
    arguments = ["--data", data, "--out", str(tmp_path / "run"), "--config", found["file"]]
    assert main(["train", "din", *arguments]) == 0
    assert main([*command, "--budget", "10d"]) == 2
    assert main([*command, "--set", "log_every=5", "--set", "recipe=fast"]) == 2
    assert "another search: recipe is 'accurate', not 'fast'" in capsys.readouterr().err


# --- benchmark


def test_a_dry_run_prints_a_forecast_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(tiny_dataset(tmp_path / "data", tiny_source(impressions=160))), tmp_path / "bench"
    flags = ["--grade", "size-1", "--length", "8", "--seeds", "2", "--rates", "0.001,0.003"]
    command = ["benchmark", "--data", data, "--models", "mlp,trees", "--out", str(out), *flags, "--dry-run"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["runs"]) == ["din", "mlp", "trees"]
    assert found["seconds"] == pytest.approx(sum(found["models"].values()))
    assert main(command) == 0
    assert "8 runs of 3 models take about" in capsys.readouterr().out
    assert not out.exists()
    for verb in (command, ["ablate", "suan", "--data", data, "--out", str(out), "--dry-run"]):
        out.write_text("years of work")
        assert main(verb) == 2
        assert "bench is a file" in capsys.readouterr().err
        out.unlink()
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        assert main(verb) == 2
        assert "is not empty and holds no" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]
        (out / "thesis.txt").unlink()
        out.rmdir()


def test_rates_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["benchmark", "--data", "log", "--models", "mlp", "--out", str(tmp_path / "bench")]
    assert main([*command, "--rates", "0.001;0.003"]) == 2
    assert "--rates is '0.001;0.003'" in capsys.readouterr().err
