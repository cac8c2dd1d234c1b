from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from clickscale.benchmarking.speeds import (
    Speed,
    measure_speed,
    read_speeds,
    training_operations,
    write_speeds,
)
from clickscale.data.dataset import open_dataset
from clickscale.data.loader import Loader
from clickscale.data.portion import Portion
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.model import make_model
from clickscale.training.run.run_config import TrainConfig
from tests.data.tiny import tiny_dataset


def speed(operations: float = 30.0) -> Speed:
    return Speed(
        steps=100, samples=1000, validations=2, training=2.0, scoring=0.5, cpu=1.0, operations=operations
    )


def test_steps_are_matched_to_a_budget_of_operations() -> None:
    # 1,000 impressions at 30 operations: 30,000 for 100 steps, 300 for a step.
    assert speed().budget == 30_000
    assert speed().matched(9_000) == 30
    assert speed().matched(9_299) == 30
    assert speed().matched(1) == 1
    assert speed().matched(10**9) == 100  # never beyond the epochs


def test_speeds_stay_in_the_folder(tmp_path: Path) -> None:
    assert read_speeds(tmp_path) == {}
    write_speeds(tmp_path, {"din": speed()})
    assert read_speeds(tmp_path) == {"din": speed()}


@pytest.mark.parametrize("model", ["mlp", "suan"])
def test_a_few_steps_measure_a_training(model: str, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    config = TrainConfig(
        model=model, data=str(tmp_path), grade="size-1", length=8, batch_size=8, epochs=Epochs(count=2)
    )
    before = torch.get_rng_state()
    found = measure_speed(config, dataset)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.samples == 2 * len(dataset.part("train"))
    grouping = "timeline" if model == "suan" else "impression"
    options = TrainConfig(model=model, data="", length=8, batch_size=8, grouping=grouping, window=1)
    assert found.steps == Loader(dataset, "train", options.loader()).steps(2)
    assert min(found.training, found.scoring, found.cpu) > 0
    assert found.operations == measure_speed(config, dataset).operations  # what is matched can be repeated


def test_operations_are_counted_without_a_clock_and_on_the_portion_of_the_run(tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    config = TrainConfig(model="suan", data="", grade="size-1", length=8, batch_size=64)
    found = training_operations(config, dataset)
    assert found == training_operations(config, dataset) == measure_speed(config, dataset).operations
    # The newest impressions have the longest histories.
    newest = replace(config, portion=Portion(fraction=0.25))
    assert training_operations(newest, dataset) > found
    assert measure_speed(newest, dataset).samples == 0.25 * len(dataset.part("train"))


def test_operations_of_training_are_three_forward_passes_by_hand(tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    config = TrainConfig(model="mlp", data="", grade="size-1", length=8, model_options=("head.hidden=[4]",))
    wide = TrainConfig(model="mlp", data="", grade="size-1", length=8, model_options=("head.hidden=[8]",))
    narrow, wider = measure_speed(config, dataset).operations, measure_speed(wide, dataset).operations
    # Four more neurons of (inputs + 1 output) multiply-adds, two operations each, three passes.
    inputs = (wider - narrow) / (3 * 2 * 4) - 1
    head = make_model(config, dataset).get_submodule("head")
    assert inputs == next(layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)).in_features
