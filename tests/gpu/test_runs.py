"""Runs on a GPU: they learn as on the CPU, continue, and are read back on a machine without one."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clickscale import workflow
from clickscale.artifact import load_artifact
from clickscale.batch import Batch
from clickscale.config import override
from clickscale.data.dataset import open_dataset
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import CacheConfig, StateCache
from clickscale.models import model_names
from clickscale.training import train as training
from clickscale.training.distill_config import DistillConfig, ModelChoice
from clickscale.training.objectives import ClickLoss
from clickscale.training.run.checkpoint import CheckpointStore
from clickscale.training.run.config import TrainConfig
from clickscale.training.run.folder import load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

pytestmark = pytest.mark.gpu

# Losses after a dozen steps: Adam divides by the size of a gradient, so roundings of small ones grow.
LEARNED = 5e-3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


def config_of(data: Path, gpu: torch.device | str, model: str, *changes: str) -> TrainConfig:
    config = TrainConfig(
        model=model,
        data=str(data),
        grade="size-1",
        length=8,
        batch_size=16,
        device="cpu" if str(gpu) == "cpu" else "cuda",
        log_every=1,
        threads=1,
    )
    return override(config, ["epochs.count=2", *changes])


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


@pytest.mark.parametrize("table", ["adagrad", "adam"])
@pytest.mark.parametrize("name", model_names())
def test_a_run_learns_as_on_the_cpu(
    name: str, table: str, data: Path, tmp_path: Path, gpu: torch.device
) -> None:
    for device in ("cpu", gpu):
        config = config_of(data, device, name, f"optimizer.table={table}")
        assert train(config, tmp_path / str(device), progress=False).finished
    assert losses(tmp_path / str(gpu)) == pytest.approx(losses(tmp_path / "cpu"), rel=LEARNED)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_continues(
    precision: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: torch.device
) -> None:
    config = config_of(data, gpu, "lightsuan", f"precision={precision}", "epochs.reset=snapshot")
    train(config, tmp_path / "whole", progress=False)

    class Stopping(ClickLoss):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += 1
            if type(self).batches == 5:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(batch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", Stopping)
        stopped = train(config, tmp_path / "stopped", progress=False)
        assert (stopped.signal, stopped.step) == (signal.SIGTERM, 5)
    assert train(config, tmp_path / "stopped", progress=False).finished
    whole, continued = losses(tmp_path / "whole"), losses(tmp_path / "stopped")
    assert len(whole) == len(continued)
    # Not to the bit, as on the CPU: sums into table rows take their terms in any order.
    assert continued == pytest.approx(whole, rel=LEARNED if precision == "fp32" else 0.05)
    checkpoint, problems = CheckpointStore(tmp_path / "stopped" / "checkpoints").load()
    assert checkpoint is not None
    assert problems == []
    assert {tensor.device.type for tensor in checkpoint.tensors.values()} == {"cpu"}


def test_a_distillation_trains_two_models(data: Path, tmp_path: Path, gpu: torch.device) -> None:
    config = DistillConfig(
        data=str(data),
        student=ModelChoice(model="din", grade="size-1", length=5),
        teacher=ModelChoice(model="suan", grade="size-1", length=8),
        device="cuda",
        batch_size=16,
    )
    result = workflow.distill(config, tmp_path / "out", progress=False)
    assert result.finished
    assert load_run(tmp_path / "out" / "student").step == result.step


@pytest.mark.parametrize("name", model_names())
def test_an_artifact_of_a_run_scores_the_same_on_both(
    name: str, data: Path, tmp_path: Path, gpu: torch.device
) -> None:
    workflow.train(config_of(data, gpu, name), tmp_path / "run", progress=False)
    dataset = open_dataset(data)
    requests = requests_from_dataset(dataset, dataset.part("test"))[:10]
    expected = Scorer(tmp_path / "run" / "artifact").score_many(requests)
    loaded = load_artifact(tmp_path / "run" / "artifact", gpu.type)
    cache = StateCache(CacheConfig(budget=1 << 20, admit_after=1))
    for scorer in (Scorer(loaded), Scorer(loaded, cache=cache), Scorer(loaded, cache=cache)):
        for response, one in zip(scorer.score_many(requests), expected, strict=True):
            assert response.logits == pytest.approx(one.logits, rel=1e-4, abs=1e-4)
    assert cache.stats().hits > 0
    assert cache.enabled
