"""Runs on long timelines: drawn lengths, bounded batches, recomputed blocks, and how they are measured."""

import json
from pathlib import Path

import pytest

from clickscale import workflow
from clickscale.cli import main
from clickscale.config_text import override
from clickscale.errors import ConfigError
from clickscale.models.suan import SUAN
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from tests.data.tiny import tiny_dataset, tiny_source
from tests.training.compared import differing


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(users=4, behaviors=160, impressions=200))


def config_of(data: Path, *changes: str) -> TrainConfig:
    config = TrainConfig(model="suan", data=str(data), grade="size-1", length=6, batch_size=24, log_every=1)
    return override(config, ["model_options=['head.hidden=[8]']", *changes])


def test_recomputing_changes_no_bit_of_a_run_and_may_be_chosen_later(data: Path, tmp_path: Path) -> None:
    train(config_of(data), tmp_path / "plain")
    train(config_of(data, "recompute=true"), tmp_path / "again")
    assert differing(tmp_path / "plain", tmp_path / "again") == []
    train(config_of(data, "recompute=true"), tmp_path / "plain", resume=True)


def test_a_run_with_slack_is_decided_by_its_seed_and_differs_from_one_without(
    data: Path, tmp_path: Path
) -> None:
    for name, change in (("a", "slack=4"), ("b", "slack=4"), ("c", "slack=0")):
        train(config_of(data, change, "pairs=2000"), tmp_path / name)
    assert differing(tmp_path / "a", tmp_path / "b") == []
    assert "metrics" in differing(tmp_path / "a", tmp_path / "c")


def test_a_bound_of_pairs_makes_more_and_smaller_steps(data: Path, tmp_path: Path) -> None:
    free = train(config_of(data), tmp_path / "free")
    bound = train(config_of(data, "pairs=400"), tmp_path / "bound")
    assert bound.step > free.step
    assert bound.samples == free.samples


def test_what_a_model_cannot_do_is_refused_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SUAN, "causal", False)
    with pytest.raises(ConfigError, match=r"leave out slack=2"):
        train(config_of(data, "slack=2", "grouping=request"), tmp_path / "a")
    with pytest.raises(ConfigError, match="leave out recompute=true"):
        train(config_of(data, "recompute=true", "model=mlp"), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_measured_with_its_slack_and_evaluated_with_any(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    workflow.train(config_of(data, "slack=4"), out)
    assert json.loads((out / "evaluation-valid.json").read_text())["grouping"] == "request, slack 4"
    capsys.readouterr()
    for slack, stated in ((2, "request, slack 2"), (0, "request")):
        assert main(["evaluate", str(out), "--slack", str(slack), "--bootstrap", "0", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["grouping"] == stated
    assert main(["evaluate", str(out), "--slack", "2", "--grouping", "timeline"]) == 2
    assert "grouping request" in capsys.readouterr().err
