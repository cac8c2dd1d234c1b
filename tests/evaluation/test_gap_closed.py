"""The share of the gap between a student alone and its teacher that a taught student closes."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from clickscale.evaluation.measures import Measured, UserRows
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import gap_closed, paired_user_bootstrap
from clickscale.report.results import gap_text

Array = npt.NDArray[np.float64]
USERS = 60


class Market:
    """Users with ten impressions each, and models that know more or less of what drives their clicks."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.users = np.repeat(np.arange(USERS), 10)
        self.times = np.tile(np.arange(10) // 5, USERS)  # two requests of each user
        self.truth = random.normal(0, 2, len(self.users))
        self.noise, self.other = random.normal(0, 2, (2, len(self.users)))
        self.labels = (random.random(len(self.users)) < 1 / (1 + np.exp(-self.truth))).astype(np.int64)

    def logits(self, known: float) -> Array:
        """Logits of a model that knows a share of the truth; the rest is one noise for all models."""
        logits: Array = known * self.truth + (1 - known) * self.noise
        return logits

    def rows(self, known: float) -> UserRows:
        return UserRows(self.labels, self.logits(known), self.users, self.times)


def test_the_share_is_the_gain_over_the_lead() -> None:
    market = Market()
    found = gap_closed([market.rows(0.4)], [market.rows(0.6)], [market.rows(0.9)])
    assert list(found) == ["auc", "gauc", "request_auc", "log_loss"]
    for name, measure in (
        ("auc", lambda logits: auc(market.labels, logits)),
        ("gauc", lambda logits: gauc(market.labels, logits, market.users)),
        ("request_auc", lambda logits: gauc(market.labels, logits, 2 * market.users + market.times)),
        ("log_loss", lambda logits: log_loss(market.labels, logits)),
    ):
        low, middle, high = (measure(market.logits(known)) for known in (0.4, 0.6, 0.9))
        assert found[name].value == pytest.approx((middle - low) / (high - low), rel=1e-12)
        assert 0 < found[name].low < found[name].value < found[name].high < 1
        assert found[name].reason == ""


def test_a_student_as_good_as_alone_closes_nothing_and_one_as_good_as_its_teacher_everything() -> None:
    market = Market()
    nothing = gap_closed([market.rows(0.4)], [market.rows(0.4)], [market.rows(0.9)])["auc"]
    everything = gap_closed([market.rows(0.4)], [market.rows(0.9)], [market.rows(0.9)])["auc"]
    worse = gap_closed([market.rows(0.4)], [market.rows(0.2)], [market.rows(0.9)])["auc"]
    assert (nothing.value, everything.value) == (0.0, 1.0)
    assert worse.value < 0
    assert worse.high < 0


@pytest.mark.parametrize("teacher", [0.4, 0.3], ids=["equal", "worse"])
def test_without_a_lead_of_the_teacher_the_share_is_not_defined(teacher: float) -> None:
    market = Market()
    for share in gap_closed([market.rows(0.4)], [market.rows(0.5)], [market.rows(teacher)]).values():
        assert math.isnan(share.value)
        assert share.reason == "the teacher is not better than the student alone"


def test_a_lead_that_may_be_chance_has_a_share_without_an_interval() -> None:
    market = Market()
    logits = 0.48 * market.truth + 0.52 * market.other
    teacher = UserRows(market.labels, logits, market.users)
    share = gap_closed([market.rows(0.4)], [market.rows(0.6)], [teacher])["auc"]
    lead = paired_user_bootstrap(market.labels, logits, market.logits(0.4), market.users)["auc"]
    assert lead.low < 0 < lead.delta
    assert not math.isnan(share.value)
    assert math.isnan(share.low)
    assert share.reason == "the lead of the teacher may be chance"
    assert gap_text(share) == "unsure"


def test_labels_of_one_class_say_what_is_missing() -> None:
    users, nothing = np.repeat(np.arange(5), 4), np.zeros(20, np.int64)
    models = [[UserRows(nothing, np.full(20, float(x)), users)] for x in range(3)]
    share = gap_closed(*models)["auc"]
    assert (math.isnan(share.value), share.reason) == (True, "there are no positives")


def test_seeds_are_averaged_before_the_share_is_taken() -> None:
    market = Market()
    kinds = [[market.rows(known) for known in seeds] for seeds in ((0.4, 0.45), (0.6, 0.5), (0.9, 0.8))]
    found = gap_closed(*kinds)["auc"]
    means = [np.mean([auc(market.labels, rows.logit) for rows in kind]) for kind in kinds]
    assert found.value == pytest.approx((means[1] - means[0]) / (means[2] - means[0]))
    assert found.low < found.value < found.high


def test_the_three_models_change_together_with_the_users() -> None:
    """A mutant: resamples of their own for each model would make the interval several times as wide."""
    market = Market()
    paired = gap_closed([market.rows(0.4)], [market.rows(0.6)], [market.rows(0.9)])["auc"]
    lone = Measured.minus
    with pytest.MonkeyPatch.context() as patch:

        def unpaired(self: Measured, other: Measured) -> Measured:
            shuffled = Measured(
                other.value, lambda: np.random.default_rng(3).permutation(other.without()), other.sizes
            )
            return lone(self, shuffled)

        patch.setattr(Measured, "minus", unpaired)
        apart = gap_closed([market.rows(0.4)], [market.rows(0.6)], [market.rows(0.9)])["auc"]
    assert apart.value == paired.value
    assert math.isnan(apart.low) or apart.high - apart.low > 1.5 * (paired.high - paired.low)


def test_the_interval_covers_the_share_of_the_population() -> None:
    """Of 20 samples of the market at most 4 may miss; 1 is expected at a level of 95%."""
    big = [Market(seed) for seed in range(1000, 1030)]
    labels = np.concatenate([market.labels for market in big])
    low, middle, high = (
        auc(labels, np.concatenate([market.logits(known) for market in big])) for known in (0.4, 0.6, 0.9)
    )
    truth, missed = (middle - low) / (high - low), 0
    for seed in range(20):
        market = Market(seed)
        share = gap_closed([market.rows(0.4)], [market.rows(0.6)], [market.rows(0.9)])["auc"]
        missed += not share.low <= truth <= share.high
    assert missed <= 4
