"""What several tests of distillation begin with."""

from pathlib import Path

import pytest

from clickscale.training.run.folder import TEACHER
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.training.pairs import config_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the teacher alone."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(config_of(data).own_run(TEACHER), out)
    return out
