"""Oracles of the last L behaviors: exact where the logit is a formula of behaviors, never above the truth."""

import msgspec
import numpy as np
import pytest

from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.evaluation.regret import expected
from clickscale.world.truth import known_logit, true_probability
from clickscale.world.window_oracle import sample_rows, window_oracles, window_parts
from clickscale.world.world_config import Strengths
from tests.world.small_world import small_config, small_world


@pytest.fixture(scope="module")
def tasteless(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A world whose users have no taste of their own: all of its logit is known or a formula of behaviors."""
    strengths = msgspec.structs.replace(Strengths(), taste=0.0)
    config = small_config(strengths=strengths, seed=3)
    return small_world(tmp_path_factory.mktemp("tasteless") / "data", config)


def logits(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    p = true_probability(dataset, rows).astype(np.float64)
    return np.log(p) - np.log1p(-p)


def test_all_behaviors_give_the_simulated_logit(tasteless: Dataset) -> None:
    """So the simulation is causal: the logit is a formula of what the data set shows as known by then."""
    rows = np.arange(tasteless.manifest.counts["impressions"])
    lived, _ = window_parts(tasteless, rows, 10**6)
    np.testing.assert_allclose(known_logit(tasteless, rows) + lived, logits(tasteless, rows), atol=2e-3)


def test_few_behaviors_do_not(tasteless: Dataset) -> None:
    rows = tasteless.part("test")
    lived, _ = window_parts(tasteless, rows, 5)
    assert np.abs(known_logit(tasteless, rows) + lived - logits(tasteless, rows)).max() > 0.5


def test_more_behaviors_are_worth_more_and_the_truth_most(tasteless: Dataset) -> None:
    rows = tasteless.part("test")
    truth, users = true_probability(tasteless, rows), np.asarray(tasteless.impressions["user"])[rows]
    found = window_oracles(tasteless, rows, (0, 5, 10**6), sample=2_500)
    auc = [expected(logit, truth, users).auc for logit in found.values()]
    best = expected(logits(tasteless, rows), truth, users).auc
    assert auc[0] < auc[1] < auc[2] <= best


def test_oracles_need_impressions_before_the_part(tasteless: Dataset) -> None:
    with pytest.raises(ConfigError, match="choose the part test"):
        window_oracles(tasteless, tasteless.part("train"), (5,))


def test_sampled_rows_are_in_order_and_not_more_than_asked_for() -> None:
    rows = np.arange(100, 200)
    found = sample_rows(rows, 10)
    assert len(found) == 10
    assert (np.diff(found) > 0).all()
    assert sample_rows(rows, 100) is rows
