import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.calibration import ece, pcoc
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import (
    delong,
    paired_user_bootstrap,
    seeds_t_test,
    user_bootstrap,
)

Array = npt.NDArray[np.float64]
NAMES = ("auc", "gauc", "log_loss", "pcoc", "ece")


def market(
    seed: int, rows: int = 300, users: int = 40
) -> tuple[npt.NDArray[np.int64], Array, npt.NDArray[np.int64]]:
    """Labels, logits (with ties) and users of a small calibrated market."""
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(-0.5, 1.5, rows), 1)
    labels = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return labels, logits, random.integers(0, users, rows) * 1000 + 7


def all_metrics(
    labels: npt.NDArray[np.int64], logits: Array, users: npt.NDArray[np.int64]
) -> dict[str, float]:
    probabilities = 1 / (1 + np.exp(-logits))
    return {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, users),
        "log_loss": log_loss(labels, logits),
        "pcoc": pcoc(labels, probabilities),
        "ece": ece(labels, probabilities),
    }


def test_the_bootstrap_measures_the_sample_itself_as_the_metrics_do() -> None:
    labels, logits, users = market(0)
    intervals = user_bootstrap(labels, logits, users, replicates=50)
    assert tuple(intervals) == NAMES
    for name, value in all_metrics(labels, logits, users).items():
        assert intervals[name].value == pytest.approx(value, abs=1e-12)
        assert intervals[name].low <= value <= intervals[name].high
        assert intervals[name].low < intervals[name].high


def test_the_bootstrap_equals_repeating_the_drawn_users_rows() -> None:
    labels, logits, users = market(1, rows=120, users=15)
    distinct = np.unique(users)
    random, samples = np.random.default_rng(4), []
    for _ in range(30):
        drawn = distinct[random.integers(0, len(distinct), len(distinct))]
        rows = [np.flatnonzero(users == user) for user in drawn]
        copies = np.repeat(
            np.arange(len(drawn)), [len(each) for each in rows]
        )  # a user drawn twice is two users
        taken = np.concatenate(rows)
        samples.append(
            [
                roc_auc_score(labels[taken], logits[taken]),
                gauc(labels[taken], logits[taken], copies),
                log_loss(labels[taken], logits[taken]),
                pcoc(labels[taken], 1 / (1 + np.exp(-logits[taken]))),
            ]
        )
    intervals = user_bootstrap(labels, logits, users, replicates=30, seed=4, level=0.8)
    low, high = np.quantile(np.array(samples), [0.1, 0.9], axis=0)
    for column, name in enumerate(("auc", "gauc", "log_loss", "pcoc")):
        assert intervals[name].low == pytest.approx(low[column], abs=1e-12)
        assert intervals[name].high == pytest.approx(high[column], abs=1e-12)


def test_the_bootstrap_of_ece_weighs_the_gaps_of_the_drawn_users() -> None:
    # Three distinct logits keep a bin each in every resample, so repeated rows give the same ECE.
    users, labels = np.repeat(np.arange(8), 6), np.array([0, 0, 1, 0, 1, 1, 1, 0] * 6)
    logits = np.tile([-2.0, 0.0, 2.0], 16)
    random, samples = np.random.default_rng(2), []
    for _ in range(25):
        rows = np.concatenate([np.flatnonzero(users == user) for user in random.integers(0, 8, 8)])
        samples.append(ece(labels[rows], 1 / (1 + np.exp(-logits[rows]))))
    interval = user_bootstrap(labels, logits, users, replicates=25, seed=2)["ece"]
    assert interval.high == pytest.approx(np.quantile(samples, 0.975), abs=1e-12)
    assert interval.low == pytest.approx(min(np.quantile(samples, 0.025), interval.value), abs=1e-12)


def test_intervals_do_not_shrink_when_each_users_rows_are_copied() -> None:
    labels, logits, users = market(2)
    once = user_bootstrap(labels, logits, users)["auc"]
    copied = user_bootstrap(np.tile(labels, 9), np.tile(logits, 9), np.tile(users, 9))["auc"]
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-12)
    rows_as_users = user_bootstrap(np.tile(labels, 9), np.tile(logits, 9), np.arange(9 * len(labels)))["auc"]
    assert rows_as_users.high - rows_as_users.low < (once.high - once.low) / 2, (
        "resampling rows would pass unseen"
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Scores N(1, 1) of positives and N(0, 1) of negatives: the true AUC is Phi(1 / sqrt(2)).
    truth, covered = float(stats.norm.cdf(1 / math.sqrt(2))), 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, 240)
        interval = user_bootstrap(
            labels, random.normal(labels, 1), np.arange(240) // 3, replicates=100, seed=seed, level=0.9
        )["auc"]
        covered += interval.low <= truth <= interval.high
    assert 0.8 <= covered / 60 <= 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    labels, logits, users = market(3)
    assert user_bootstrap(labels, logits, users, 20, seed=1) == user_bootstrap(
        labels, logits, users, 20, seed=1
    )
    assert user_bootstrap(labels, logits, users, 20, seed=1) != user_bootstrap(
        labels, logits, users, 20, seed=2
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_one_user_or_none_has_no_interval(rows: int) -> None:
    intervals = user_bootstrap(
        np.arange(rows) % 2, np.arange(float(rows)), np.zeros(rows, int), replicates=10
    )
    for name in NAMES:
        assert math.isnan(intervals[name].low)
        assert math.isnan(intervals[name].high)
    assert intervals["auc"].value == pytest.approx(auc(np.arange(rows) % 2, np.arange(rows)), nan_ok=True)


def test_no_replicates_give_values_without_intervals() -> None:
    interval = user_bootstrap(*market(0), replicates=0)["gauc"]
    assert not math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_replicates_without_both_classes_are_left_out() -> None:
    # One positive, of one user: a third of the resamples miss it and have no AUC, the others have AUC 1.
    interval = user_bootstrap([1, 0, 0], [3.0, 1.0, 2.0], [1, 2, 3], replicates=50)["auc"]
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_the_interval_of_ece_holds_its_value() -> None:
    random = np.random.default_rng(6)
    logits = random.normal(0, 2, 3000)
    labels = random.random(3000) < 1 / (1 + np.exp(-logits))
    interval = user_bootstrap(labels, logits, np.arange(3000))["ece"]
    assert interval.low <= interval.value <= interval.high


def test_a_paired_bootstrap_of_one_model_with_itself_finds_nothing() -> None:
    labels, logits, users = market(4)
    for test in paired_user_bootstrap(labels, logits, logits, users, replicates=30).values():
        assert (test.delta, test.low, test.high, test.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_paired_bootstrap_finds_a_difference_that_unpaired_intervals_hide() -> None:
    labels, logits, users = market(5, rows=2000, users=200)
    noisy = logits + np.random.default_rng(0).normal(0, 0.5, 2000)
    tests = paired_user_bootstrap(labels, logits, noisy, users)
    good, bad = user_bootstrap(labels, logits, users), user_bootstrap(labels, noisy, users)
    assert good["auc"].low < bad["auc"].high, "the intervals overlap"
    assert tests["auc"].low > 0
    assert tests["auc"].delta == pytest.approx(good["auc"].value - bad["auc"].value)
    assert tests["log_loss"].high < 0
    # No replicate crossed zero: the smallest p-value that 200 replicates can tell.
    assert tests["auc"].p_value == 2 / 201


def test_swapping_the_models_turns_the_paired_bootstrap_around() -> None:
    labels, logits, users = market(6)
    other = logits + np.random.default_rng(1).normal(0, 1, len(logits))
    forth = paired_user_bootstrap(labels, logits, other, users, replicates=40)
    back = paired_user_bootstrap(labels, other, logits, users, replicates=40)
    for name in NAMES:
        assert back[name].delta == -forth[name].delta
        assert back[name].low == pytest.approx(-forth[name].high)
        assert back[name].p_value == forth[name].p_value


def brute_force_delong(labels: npt.NDArray[np.int64], a: Array, b: Array) -> tuple[float, float]:
    """Difference and variance from the full Mann-Whitney kernel, (P, M) comparisons per model."""
    kernels = []
    for scores in (a, b):
        gap = scores[labels == 1][:, None] - scores[labels == 0][None, :]
        kernels.append((gap > 0) + 0.5 * (gap == 0))
    over_positives = np.cov([kernel.mean(axis=1) for kernel in kernels])
    over_negatives = np.cov([kernel.mean(axis=0) for kernel in kernels])
    covariance = over_positives / (labels == 1).sum() + over_negatives / (labels == 0).sum()
    difference = np.array([1.0, -1.0])
    return float(kernels[0].mean() - kernels[1].mean()), float(difference @ covariance @ difference)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_delong_against_the_full_kernel(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    labels = random.integers(0, 2, 60)
    a, b = np.round(random.normal(labels, 1), decimals), np.round(random.normal(labels, 2), decimals)
    delta, variance = brute_force_delong(labels, a, b)
    test = delong(labels, a, b)
    assert test.delta == pytest.approx(delta, abs=1e-12)
    assert test.delta == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b), abs=1e-12)
    assert (test.high - test.low) / 2 == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(variance), rel=1e-9)
    assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(delta) / math.sqrt(variance)), rel=1e-9)


def test_delong_by_hand() -> None:
    # a ranks all pairs rightly. b loses one of four: placements 1/2, 1 of its positives
    # and 1, 1/2 of its negatives.
    # The differences 0, 1/2 have variance 1/8 on both sides: (1/8) / 2 + (1/8) / 2 = 1/8.
    test = delong([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0])
    assert test.delta == 0.25
    assert test.high - test.delta == pytest.approx(1.959964 * math.sqrt(1 / 8), abs=1e-6)


def test_delong_rejects_a_true_null_about_as_often_as_it_says() -> None:
    rejected = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, 150)
        rejected += delong(labels, random.normal(labels, 1), random.normal(labels, 1)).p_value < 0.1
    assert 0.05 <= rejected / 200 <= 0.16


def test_delong_says_nan_where_it_cannot_tell() -> None:
    same = delong([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    assert (same.delta, same.p_value) == (0.0, 1.0)
    opposite = delong([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0])
    assert opposite.delta == 1.0
    assert math.isnan(opposite.p_value)
    one_positive = delong([0, 0, 1], [1.0, 2.0, 3.0], [3.0, 2.0, 2.5])
    assert one_positive.delta == 0.5
    assert math.isnan(one_positive.low)
    assert math.isnan(delong([1, 1], [1.0, 2.0], [1.0, 2.0]).delta)


def test_the_t_test_over_seeds_by_hand_and_against_scipy() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), t = 3.4641 with 2 degrees of freedom.
    a, b = [0.8, 0.9, 1.0], [0.7, 0.7, 0.7]
    test = seeds_t_test(a, b)
    assert test.delta == pytest.approx(0.2)
    assert test.p_value == pytest.approx(0.0742, abs=5e-5)
    assert test.high - test.delta == pytest.approx(4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    reference = stats.ttest_rel(a, b)
    assert test.p_value == pytest.approx(reference.pvalue, rel=1e-9)
    assert (test.low, test.high) == pytest.approx(tuple(reference.confidence_interval(0.95)), rel=1e-9)


def test_the_t_test_takes_rounding_for_no_spread() -> None:
    assert seeds_t_test([0.8, 0.7], [0.8, 0.7]).p_value == 1.0
    constant = seeds_t_test([0.8, 0.7, 0.9], [0.7, 0.6, 0.8])  # 0.1 each, up to the last bit
    assert constant.delta == pytest.approx(0.1)
    assert math.isnan(constant.p_value)


@pytest.mark.parametrize("values", [[], [0.7]])
def test_the_t_test_needs_two_seeds(values: list[float]) -> None:
    with pytest.raises(DataError, match="2 seeds or more"):
        seeds_t_test(values, values)


def test_values_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(DataError, match="values_a has 3, values_b has 2"):
        seeds_t_test([0.1, 0.2, 0.3], [0.1, 0.2])
    with pytest.raises(DataError, match=r"values_b\[0\] is nan"):
        seeds_t_test([0.1, 0.2], [math.nan, 0.2])
    with pytest.raises(DataError, match=r"logits\[0\] is nan"):
        user_bootstrap([0, 1], [math.nan, 1.0], [1, 2])
    with pytest.raises(DataError, match="groups has 1"):
        user_bootstrap([0, 1], [0.0, 1.0], [1])
    with pytest.raises(DataError, match="labels has 2, scores has 3"):
        delong([0, 1], [0.0, 1.0], [0.0, 1.0, 2.0])
    with pytest.raises(ConfigError, match="replicates is -1"):
        user_bootstrap([0, 1], [0.0, 1.0], [1, 2], replicates=-1)
    for level in (0.0, 1.0, 95):
        with pytest.raises(ConfigError, match="level is"):
            delong([0, 1], [0.0, 1.0], [0.0, 1.0], level=level)


@pytest.mark.benchmark
def test_200_replicates_of_100000_rows_take_about_two_seconds_at_most() -> None:
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 2, 100_000), random.normal(size=100_000)
    started = time.perf_counter()
    user_bootstrap(labels, logits, random.integers(0, 10_000, 100_000))
    seconds = time.perf_counter() - started
    print(f"{seconds:.2f} s")
    assert seconds < 4
