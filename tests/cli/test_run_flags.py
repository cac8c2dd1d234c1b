"""The flags of ``train`` and ``distill``, and the verb ``options``."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from msgspec.structs import replace

from clickscale.cli import main
from clickscale.cli.distill import distill_models
from clickscale.cli.options import names
from clickscale.cli.runs import train_model
from clickscale.config import Config
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.option_list import _options_of
from clickscale.training.run.folder import read_config
from clickscale.training.run.run_config import TrainConfig
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

KEYS = {
    "epochs": "epochs.count",
    "learning_rate": "optimizer.learning_rate",
    "together": "teacher_first",  # its opposite
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    return str(tiny_dataset(folder, tiny_source(impressions=160, statistics=STATISTICS)))


def flags_with_a_default(verb: Callable[..., int]) -> dict[str, str]:
    """Flags whose value is that of an option, and the default that help shows."""
    shown = {
        name: information.show_default
        for name, hint in get_type_hints(verb, include_extras=True).items()
        for information in getattr(hint, "__metadata__", ())
    }
    return {name: text for name, text in shown.items() if isinstance(text, str)}


@pytest.mark.parametrize(("verb", "kind"), [(train_model, TrainConfig), (distill_models, DistillConfig)])
def test_help_shows_the_defaults_of_the_options(verb: Callable[..., int], kind: type[Config]) -> None:
    defaults = {option.key: option.default.strip('"') for option in _options_of(kind)}
    defaults |= {key.removeprefix("student."): default for key, default in defaults.items()}
    shown = flags_with_a_default(verb)
    assert {"epochs", "batch_size", "learning_rate", "device", "threads", "validate_every"} <= set(shown)
    assert shown.pop("labels") == "the first one"
    assert shown.pop("early_stopping") == "early-stopping"
    assert defaults["early_stopping"] == "true"
    left_open = [name for name, text in shown.items() if text == "recipe"]
    assert {"epochs", "batch_size", "validate_every"} <= set(left_open)
    for name in left_open:
        assert defaults[KEYS.get(name, name)] in ("0", "unset", "auto")
        del shown[name]
    assert shown == {name: defaults[KEYS.get(name, name)] for name in shown}


def test_flags_change_a_run(data: str, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("log_every = 3\nthreads = 2\n[model]\nd = 4\n")
    flags = "--grade size-1 --length 6 --epochs 2 --batch-size 40 --learning-rate 0.01 --threads 1"
    more = f"--device cpu --precision fp32 --validate-every 2 --labels like --seed 5 --config {file}"
    arguments = [*flags.split(), *more.split(), "--set", "model.hidden=8", "--set", "seed=6"]
    assert main(["train", "din", "--data", data, "--out", str(tmp_path / "run"), *arguments]) == 0
    config = read_config(tmp_path / "run")
    expected = TrainConfig(
        model="din",
        data=data,
        grade="size-1",
        length=6,
        epochs=replace(config.epochs, count=2),
        batch_size=40,
        grouping="impression",  # this and the next two: what the recipe makes of the rest
        patience=2,
        optimizer=replace(config.optimizer, learning_rate=0.01, table_l2=0.2 / 40),
        threads=1,
        device="cpu",
        validate_every=2,
        labels=("like",),
        seed=6,
        log_every=3,
        model_options=("d=4", "hidden=8"),
    )
    assert config == expected


def test_the_learning_rate_of_a_distillation_is_that_of_both_models(data: str, tmp_path: Path) -> None:
    both = ["--student", "din:size-1:4", "--teacher", "mlp:size-1:4"]
    out = str(tmp_path / "run")
    flags = ["--learning-rate", "0.02", "--batch-size", "64", "--threads", "1", "--temperature", "3"]
    assert main(["distill", *both, "--data", data, "--out", out, *flags]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    rates = {name: config[name]["optimizer"]["learning_rate"] for name in ("student", "teacher")}
    assert rates == {"student": 0.02, "teacher": 0.02}
    assert (config["temperature"], config["batch_size"]) == (3.0, 64)


def test_an_unknown_key_of_a_file_is_wrong_usage(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text("batchsize = 3\n")
    arguments = ["--data", data, "--out", str(tmp_path / "run"), "--config", str(file)]
    assert main(["train", "din", *arguments]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_options_are_listed_with_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "suan", "--grade", "size-4", "--json"]) == 0
    listed = {option.pop("key"): option for option in json.loads(capsys.readouterr().out)}
    assert listed["model.blocks"]["default"] == "8"
    assert listed["batch_size"]["type"] == "integer"
    assert listed["epochs.reset"]["meaning"]
    assert "student.length" not in listed
    assert main(["options"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"student\.length +integer +100 +behaviors", printed)
    assert main(["options", "suam"]) == 2
    assert "suan" in capsys.readouterr().err


def test_the_names_of_a_list_are_separated_by_commas() -> None:
    assert names("click, like,") == ("click", "like")
