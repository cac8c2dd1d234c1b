import subprocess
import sys
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from clickscale.features import UNKNOWN
from clickscale.training.run.folder import load_run
from clickscale.training.run.run_config import UNKNOWN_USERS, TrainConfig
from clickscale.training.train import train
from tests.data.tiny import tiny_dataset, tiny_source

LOADED = """
import sys, pathlib
from clickscale import workflow
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.run_config import TrainConfig

def loaded():
    names = (name for name in sys.modules if name.startswith("clickscale.models.") or name == "torch._dynamo")
    return " ".join(sorted(names))

print(loaded())
config = TrainConfig(model="din", data=sys.argv[1], grade="debug", epochs=Epochs(count=1), threads=1)
workflow.train(config, pathlib.Path(sys.argv[2]), progress=False)
print(loaded())
"""


@pytest.mark.wide
def test_training_loads_no_model_that_is_not_asked_for_and_not_the_compiler(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", tiny_source(impressions=60, users=6))
    command = [sys.executable, "-c", LOADED, str(data), str(tmp_path / "run")]
    before, after = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    shared = ["clickscale.models._base", "clickscale.models._chunks", "clickscale.models._losses"]
    assert before.split() == shared
    public = [name for name in after.split() if not name.startswith("clickscale.models._")]
    assert public == ["clickscale.models.din"]  # beside it, "torch._dynamo" would take 1.5 CPU seconds


@pytest.mark.parametrize("model", ["din", "suan"])
def test_unknown_users_have_a_row_that_was_trained(model: str, tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", tiny_source())
    config = TrainConfig(model=model, data=str(data), length=8, batch_size=32)
    assert config.unknown_users == UNKNOWN_USERS

    def row(name: str, config: TrainConfig) -> torch.Tensor:
        train(config, tmp_path / name, progress=False)
        run = load_run(tmp_path / name)
        table = run.model.get_submodule("inputs.table")
        user = run.dataset.features.profile[0].name
        return table.weight[table.offsets[user] + UNKNOWN].detach()  # type: ignore[index,operator,union-attr]

    assert row("hiding", config).abs().sum() > 0
    assert (row("showing", replace(config, unknown_users=0.0)) == 0).all()
