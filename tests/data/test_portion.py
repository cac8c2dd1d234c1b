import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.data.portion import Portion
from clickscale.data.source import Split
from clickscale.errors import ConfigError
from clickscale.training.recipe import facts_of
from clickscale.training.run.folder import differences, load_run
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from clickscale.workflow import evaluate
from tests.data.tiny import tiny_dataset, tiny_source

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=400, users=20))


def rows_of(data: Path, fraction: float, by: Literal["time", "users"]) -> set[int]:
    dataset = open_dataset(data, portion=Portion(fraction=fraction, by=by))
    return set(dataset.part("train").tolist())


def test_the_newest_impressions_are_taken_by_hand() -> None:
    rows, user, time = np.arange(6), np.array([0, 0, 1, 1, 2, 2]), np.array([10, 40, 20, 60, 30, 50])
    assert Portion(fraction=0.5).chosen(rows, user, time).tolist() == [1, 3, 5]
    assert Portion(fraction=0.01).chosen(rows, user, time).tolist() == [3]  # one at least
    # Rows of a part that leaves impressions out keep their own numbers.
    assert Portion(fraction=0.5).chosen(rows[[0, 2, 4, 5]], user, time).tolist() == [4, 5]


def test_users_are_taken_whole_by_hand() -> None:
    rows, user, time = np.arange(60), np.arange(60) // 6, np.arange(60) % 7
    chosen = Portion(fraction=0.3, by="users").chosen(rows, user, time)
    assert len(chosen) == 18
    assert set(np.bincount(user[chosen], minlength=10)) == {0, 6}


@pytest.mark.parametrize("by", ["time", "users"])
def test_a_smaller_portion_lies_inside_a_larger_one(data: Path, by: Literal["time", "users"]) -> None:
    portions = [rows_of(data, fraction, by) for fraction in FRACTIONS]
    assert portions[-1] == set(open_dataset(data).part("train").tolist())
    for smaller, larger in itertools.pairwise(portions):
        assert smaller < larger
    sizes = [len(portion) / len(portions[-1]) for portion in portions]
    assert sizes == pytest.approx(FRACTIONS, abs=0.08)  # a user holds about a twentieth


def test_no_portion_in_time_is_older_than_what_it_leaves_out(data: Path) -> None:
    dataset, kept = open_dataset(data), sorted(rows_of(data, 0.25, "time"))
    time = dataset.impressions["time"]
    left_out = sorted(set(dataset.part("train").tolist()) - set(kept))
    assert time[kept].min() >= time[left_out].max()


def test_a_moment_is_shared_among_users_and_a_request_is_not_divided() -> None:
    # One day holds everything: 10 users with a request of 4 impressions each.
    rows, user, time = np.arange(40), np.arange(40) // 4, np.zeros(40, np.int64)
    half = Portion(fraction=0.5).chosen(rows, user, time)
    assert set(np.bincount(user[half], minlength=10)) == {0, 4}
    assert len(half) == 20
    third = Portion(fraction=1 / 3).chosen(rows, user, time)
    assert len(third) == 16
    assert set(third) < set(half)


def test_other_parts_and_histories_stay_whole(data: Path) -> None:
    whole, part = open_dataset(data), open_dataset(data, portion=Portion(fraction=0.1))
    for name in ("valid", "test"):
        assert np.array_equal(whole.part(name), part.part(name))
    newest = part.part("train")
    assert part.impressions["visible"][newest].mean() > 2  # behaviors from before the portion among them


def test_a_split_by_user_has_portions_too(data: Path) -> None:
    split = Split(kind="user_last", valid=1, test=1)
    whole = open_dataset(data, split).part("train")
    half = open_dataset(data, split, Portion(fraction=0.5)).part("train")
    assert len(half) == round(len(whole) / 2)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_a_fraction_that_means_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        override(TrainConfig(model="din", data=""), [f"portion.fraction={fraction}"])


def test_a_portion_belongs_to_the_identity_of_a_run_and_to_what_it_is_measured_beside(
    data: Path, tmp_path: Path
) -> None:
    config = TrainConfig(
        model="mlp",
        data=str(data),
        grade="size-1",
        length=8,
        batch_size=16,
        portion=Portion(fraction=0.25),
        model_options=("head.hidden=[8]",),
    )
    result = train(config, tmp_path / "run", progress=False)
    assert result.samples % round(0.25 * len(open_dataset(data).part("train"))) == 0
    loaded = load_run(tmp_path / "run")
    assert facts_of(loaded.dataset).impressions == round(0.25 * len(open_dataset(data).part("train")))
    assert differences(config, override(config, ["portion.fraction=0.5"])) == [
        "portion.fraction is 0.25, not 0.5"
    ]
    # The constant rate and item popularity beside it know no more than the run.
    whole = override(config, ["portion.fraction=1"])
    train(whole, tmp_path / "whole", progress=False)
    rates = [evaluate(tmp_path / name, bootstrap=0).labels[0].simple["constant"] for name in ("run", "whole")]
    assert rates[0].metrics["log_loss"] != rates[1].metrics["log_loss"]
