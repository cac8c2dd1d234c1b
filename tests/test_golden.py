"""Losses that stay the same from version to version: 20 steps of every model on the tiny log.

A change that should not alter results leaves them alone. A change that should alter them writes them again in
the same commit, by ``python -m tests.test_golden``, and says why.
"""

import json
import tempfile
from pathlib import Path

import pytest

from clickscale.models import model_names
from clickscale.training.epochs import Epochs
from clickscale.training.loop import train
from clickscale.training.run.folder import TrainConfig
from clickscale.training.run.logs import read_metrics
from tests.data.tiny import tiny_dataset

LOSSES = Path(__file__).parent / "golden" / "losses.json"
STEPS = 20
# Sums in another order, on another processor, change the last bits; 20 steps make at most this of them.
TOLERANCE = 2e-3


def losses_of(model: str, data: Path, out: Path) -> list[float]:
    """Loss of each of the first steps of a model."""
    config = TrainConfig(
        model=model,
        data=str(data),
        grade="size-1",
        length=8,
        grouping="request" if model == "est_full" else "timeline",  # est_full is not causal
        window=8,
        batch_size=16,
        epochs=Epochs(count=4),
        early_stopping=False,
        threads=1,
        log_every=1,
    )
    train(config, out, progress=False)
    found = [line["loss"] for line in read_metrics(out) if "loss" in line]
    assert len(found) >= STEPS
    return found[:STEPS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("model", model_names())
def test_every_model_learns_as_it_always_did(model: str, data: Path, tmp_path: Path) -> None:
    golden = json.loads(LOSSES.read_text("utf-8"))
    assert losses_of(model, data, tmp_path / "run") == pytest.approx(golden[model], rel=TOLERANCE)


def test_the_golden_losses_know_all_models_and_no_other() -> None:
    assert sorted(json.loads(LOSSES.read_text("utf-8"))) == model_names()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        prepared = tiny_dataset(Path(folder))
        made = {name: losses_of(name, prepared, Path(folder) / name) for name in model_names()}
    LOSSES.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", "utf-8")
