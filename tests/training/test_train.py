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
import sys
import clickscale.training.train
print(*(name for name in sys.modules if name.startswith("clickscale.models.")))
"""


def test_training_loads_no_model_before_one_is_asked_for() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == [
        "clickscale.models._base",
        "clickscale.models._chunks",
        "clickscale.models._losses",
    ]


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
