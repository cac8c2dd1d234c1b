"""Tiny trained things for tests of what stands above training: a prepared log, a run, an artifact."""

from pathlib import Path
from typing import Any

import torch

from clickscale import workflow
from clickscale.artifact import save_artifact
from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.models import CTRModel, build_model
from clickscale.training.run.run_config import TrainConfig
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

GRADE, LENGTH = "size-1", 40


def tiny_prepared(folder: Path, *, known_at: bool = False, string_ids: bool = False) -> Dataset:
    """A prepared tiny log with statistics."""
    source = tiny_source(known_at=known_at, string_ids=string_ids, statistics=STATISTICS)
    return open_dataset(tiny_dataset(folder, source))


def shaken_model(dataset: Dataset, model_name: str, labels: tuple[str, ...] = ("click",)) -> CTRModel[Any]:
    """A model in evaluation mode whose weights and running statistics are far from their start."""
    torch.manual_seed(1)
    model = build_model(
        model_name, dataset.features, dataset.item_columns(), grade=GRADE, length=LENGTH, labels=labels
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        weights = {name for name, _ in model.named_parameters()}
        for name, running in model.state_dict().items():
            if name not in weights and running.is_floating_point():
                running *= 1 + 0.5 * torch.rand_like(running)
        model.inputs.table.weight[0] = 0  # padding stays zero
    return model.eval()


def tiny_artifact(
    folder: Path,
    dataset: Dataset,
    name: str = "din",
    labels: tuple[str, ...] = ("click",),
    overwrite: bool = False,
) -> Path:
    """An artifact of a shaken model."""
    return save_artifact(
        folder / f"artifact-{name}",
        shaken_model(dataset, name, labels),
        dataset.encoder,
        dataset.item_columns(),
        model_name=name,
        grade=GRADE,
        length=LENGTH,
        labels=labels,
        metrics={"valid": {"auc": 0.75}},
        notes=("A note.",),
        overwrite=overwrite,
    )


def tiny_run(folder: Path, dataset: Dataset, model: str = "mlp", seed: int = 0, *overrides: str) -> Path:
    """A run that trained for a few steps and saved its artifact."""
    config = TrainConfig(
        model=model, data=str(dataset.path), grade=GRADE, length=LENGTH, batch_size=32, seed=seed, threads=1
    )
    out = folder / f"{model}-{seed}"
    result = workflow.train(override(config, overrides), out, progress=False)
    assert result.finished
    return out
