from pathlib import Path

import pytest

from clickscale.data.dataset import Dataset
from clickscale.report.world_plots import plot_world
from tests.world.small_world import small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_world(tmp_path_factory.mktemp("drawn") / "data")


def test_a_world_is_drawn_with_its_best_auc_and_that_of_each_length(world: Dataset, tmp_path: Path) -> None:
    plot_world(world, {0: 0.612, 10: 0.789, 500: 0.834}, 0.901, tmp_path / "world.svg")
    text = (tmp_path / "world.svg").read_text("utf-8")
    for shown in ("The life of one user", "the truth: 0.901", "0.789", "none", "500", "buy", "valid", "test"):
        assert shown in text


@pytest.mark.wide
def test_a_world_can_be_drawn_without_oracles(world: Dataset, tmp_path: Path) -> None:
    plot_world(world, {}, 0.9, tmp_path / "world.png")
    assert (tmp_path / "world.png").read_bytes().startswith(b"\x89PNG")
