import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.calibration import debiased_ece, pcoc
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import (
    PairedTest,
    delong,
    paired_user_bootstrap,
    seeds_t_test,
    user_bootstrap,
)

Array = npt.NDArray[np.float64]
NAMES = ("auc", "gauc", "request_auc", "log_loss", "pcoc", "ece")
TESTED = tuple(name for name in NAMES if name not in ("request_auc", "ece"))


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
        "request_auc": gauc(labels, logits, users),  # each user has one request
        "log_loss": log_loss(labels, logits),
        "pcoc": pcoc(labels, probabilities),
        "ece": debiased_ece(labels, probabilities, users),
    }


def test_the_bootstrap_measures_the_sample_itself_as_the_metrics_do() -> None:
    labels, logits, users = market(0)
    intervals = user_bootstrap(labels, logits, users, replicates=50, moments=labels * 0)
    assert tuple(intervals) == NAMES
    for name, value in all_metrics(labels, logits, users).items():
        assert intervals[name].value == pytest.approx(value, abs=1e-12)
        if name != "ece":
            assert intervals[name].low < value < intervals[name].high
            assert intervals[name].reason == ""


def by_hand(
    labels: npt.NDArray[np.int64], logits: Array, users: npt.NDArray[np.int64], seed: int, replicates: int
) -> dict[str, tuple[float, Array]]:
    """Standard error by leaving out each user, and distances of resamples: loops over users and rows."""
    distinct = np.unique(users)
    kept = [np.flatnonzero(users != user) for user in distinct]
    without = [
        {
            "auc": roc_auc_score(labels[rows], logits[rows]),
            "gauc": gauc(labels[rows], logits[rows], users[rows]),
            "log_loss": log_loss(labels[rows], logits[rows]),
            "pcoc": pcoc(labels[rows], 1 / (1 + np.exp(-logits[rows]))),
        }
        for rows in kept
    ]
    whole, count = all_metrics(labels, logits, users), len(distinct)
    found = {}
    for name in TESTED:
        influence = np.array([whole[name] - each[name] for each in without])
        counts = np.abs(influence) > 1e-12  # GAUC: users that cannot be ranked say nothing
        influence[counts] -= influence[counts].mean()
        used = int(counts.sum())
        error = math.sqrt((used - 1) / used * (influence[counts] ** 2).sum())
        random, distances = np.random.default_rng(seed), []
        for _ in range(replicates):
            drawn = random.integers(0, count, count)
            drawn = influence[drawn[counts[drawn]]]
            distances.append(abs(drawn.mean()) / (drawn.std(ddof=1) / math.sqrt(len(drawn))))
        found[name] = error, np.sort(distances)
    return found


@pytest.mark.wide
def test_an_interval_is_the_jackknife_error_times_the_distance_that_resamples_go() -> None:
    labels, logits, users = market(1, rows=240, users=30)
    sizes = np.bincount(users // 1000)[np.unique(users) // 1000]
    positives = np.bincount(users // 1000, weights=labels)[np.unique(users) // 1000]
    ranked = sizes * ((positives > 0) & (positives < sizes))
    of_metric = {"auc": positives, "gauc": ranked, "log_loss": sizes, "pcoc": positives}
    furthest = set()
    for seed in range(12):
        intervals = user_bootstrap(labels, logits, users, replicates=39, seed=seed, level=0.9)
        for name, (error, distances) in by_hand(labels, logits, users, seed, 39).items():
            freedom = of_metric[name].sum() ** 2 / (of_metric[name] ** 2).sum() - 1
            # 36 of 39 resamples lie within the 36th distance: (39 + 1) * 0.9.
            reach = (distances[35], stats.t.ppf(0.95, freedom))
            furthest.add(int(np.argmax(reach)))
            low, high, value = intervals[name].low, intervals[name].high, intervals[name].value
            assert (value - low, high - value) == pytest.approx((error * max(reach),) * 2, rel=1e-9)
    assert furthest == {0, 1}, "one of the two would pass unseen"


def test_few_effective_users_widen_the_interval_by_the_t_distribution() -> None:
    # Two users of forty have nearly all rows, so resamples tell little of how far the value can be off.
    random = np.random.default_rng(3)
    users = np.concatenate((np.arange(40), np.repeat([0, 1], 400)))
    labels, logits = random.integers(0, 2, len(users)), random.normal(size=len(users))
    interval = user_bootstrap(labels, logits, users)["log_loss"]
    sizes = np.bincount(users)
    error, _ = by_hand(labels, logits, users, 0, 0)["log_loss"]
    freedom = sizes.sum() ** 2 / (sizes**2).sum() - 1
    assert freedom < 2
    assert interval.high - interval.value == pytest.approx(error * stats.t.ppf(0.975, freedom), rel=1e-9)


def correlated(
    random: np.random.Generator, users: int
) -> tuple[npt.NDArray[np.bool_], Array, Array, npt.NDArray[np.int64]]:
    """Labels, logits of two equally good models with errors that a user's rows share, users."""
    user = np.repeat(np.arange(users), random.integers(5, 30, users))
    truth = random.normal(size=users)[user] + random.normal(size=len(user)) - 1.0
    labels = random.random(len(user)) < 1 / (1 + np.exp(-truth))
    noise = [random.normal(size=users)[user] + 0.3 * random.normal(size=len(user)) for _ in range(2)]
    return labels, truth + noise[0], truth + noise[1], user


@pytest.mark.wide
def test_intervals_cover_and_tests_stay_quiet_when_rows_of_a_user_are_alike() -> None:
    # The long form, with more users and draws, is benchmarks/coverage.py.
    big_labels, big, _, big_users = correlated(np.random.default_rng(0), 40_000)
    truth = all_metrics(big_labels.astype(np.int64), big, big_users)
    draws, covered, false = 150, dict.fromkeys(TESTED, 0), dict.fromkeys((*TESTED, "users", "rows"), 0)
    for draw in range(draws):
        labels, a, b, users = correlated(np.random.default_rng([1, draw]), 20)
        intervals = user_bootstrap(labels, a, users, seed=draw)
        tests = paired_user_bootstrap(labels, a, b, users, seed=draw)
        for name in TESTED:
            covered[name] += intervals[name].low <= truth[name] <= intervals[name].high
            false[name] += tests[name].p_value < 0.05
        false["users"] += delong(labels, a, b, groups=users).p_value < 0.05
        false["rows"] += delong(labels, a, b).p_value < 0.05
    assert all(count / draws >= 0.90 for count in covered.values()), covered
    quiet = {name: count for name, count in false.items() if name != "rows"}
    assert all(count / draws <= 0.09 for count in quiet.values()), quiet
    assert false["rows"] / draws > 0.15, "rows that are alike would pass as independent"


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
        assert intervals[name].reason
    assert intervals["auc"].value == pytest.approx(auc(np.arange(rows) % 2, np.arange(rows)), nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "logits", "users", "name", "reason"),
    [
        ([], [], [], "auc", "no impression has a known label"),
        ([1, 1], [0.0, 1.0], [1, 2], "auc", "there are no negatives"),
        ([0, 0], [0.0, 1.0], [1, 2], "pcoc", "there are no positives"),
        ([0, 1], [0.0, 1.0], [1, 2], "gauc", "no user has both a positive and a negative"),
        ([0, 1, 0], [0.0, 1.0, 2.0], [1, 1, 1], "log_loss", "intervals are over users, and there is 1 user"),
        ([0, 1, 0], [0.0, 1.0, 2.0], [1, 2, 3], "auc", "without one of the users the value is not defined"),
        ([0, 1, 0, 1], [0.0, 1.0, 2.0, 3.0], [1, 1, 2, 2], "log_loss", "2 users that count are too few"),
        ([0, 1] * 9, [1.0] * 18, np.arange(18) // 2, "auc", "the value is the same without any user"),
        ([0, 1] * 9, np.arange(18.0), np.arange(18) // 2, "ece", "noise pushes this metric up"),
    ],
)
def test_what_cannot_be_told_has_a_reason(
    labels: list[int], logits: list[float], users: list[int], name: str, reason: str
) -> None:
    interval = user_bootstrap(labels, logits, users)[name]
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.reason.startswith(reason)


def test_too_few_replicates_give_no_interval() -> None:
    few, enough = (user_bootstrap(*market(0), replicates=count)["auc"] for count in (18, 19))
    assert few.reason == "18 resamples are too few for an interval of 95%"
    assert enough.low < enough.high


def test_intervals_end_where_the_values_do() -> None:
    # Four users in which the positive wins nearly always: the error reaches far beyond an AUC of 1.
    interval = user_bootstrap([0, 1] * 5, [0, 1, 0, 2, 0, 1, 2, 1, 0, 3], np.arange(10) // 2)["auc"]
    assert (interval.high, interval.reason) == (1.0, "")


def test_no_replicates_give_values_without_intervals() -> None:
    interval = user_bootstrap(*market(0), replicates=0)["gauc"]
    assert not math.isnan(interval.value)
    assert math.isnan(interval.low)


def test_a_paired_bootstrap_of_one_model_with_itself_finds_nothing() -> None:
    labels, logits, users = market(4)
    tests = paired_user_bootstrap(labels, logits, logits, users, replicates=30, moments=labels * 0)
    for test in tests.values():
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
    # No replicate went as far: the smallest p-value that 200 replicates can tell.
    assert tests["auc"].p_value == 1 / 201
    assert tests["auc"].p_text == "<= 0.005 (200 resamples)"


def test_the_p_value_agrees_with_the_interval_and_counts_resamples() -> None:
    for seed in range(30):
        labels, a, b, users = correlated(np.random.default_rng([2, seed]), 12)
        tests = paired_user_bootstrap(labels, a, b, users, seed=seed, moments=labels * 0)
        for test in tests.values():
            assert (test.p_value <= 0.05) == (test.low > 0 or test.high < 0)
            assert 1 / 201 <= test.p_value <= 1


@pytest.mark.parametrize(
    ("test", "delta", "p_value"),
    [
        (PairedTest(0.01, 0.0, 0.02, 0.0423, resamples=200), "+0.0100 [+0.0000, +0.0200]", "0.042"),
        (
            PairedTest(0.5, 0, 1, 1 / 1001, "", 1000),
            "+0.5000 [+0.0000, +1.0000]",
            "<= 0.001 (1000 resamples)",
        ),
        (PairedTest(-0.01, math.nan, math.nan, math.nan, "one user"), "-0.0100", "-"),
        (PairedTest(math.nan, math.nan, math.nan, math.nan, "no rows"), "-", "-"),
        (PairedTest(0.01, 0.005, 0.015, 3.2e-6), "+0.0100 [+0.0050, +0.0150]", "3e-06"),
    ],
)
def test_a_test_is_told_as_far_as_it_is_known(test: PairedTest, delta: str, p_value: str) -> None:
    assert (test.delta_text, test.p_text) == (delta, p_value)


def test_swapping_the_models_turns_the_paired_bootstrap_around() -> None:
    labels, logits, users = market(6)
    other = logits + np.random.default_rng(1).normal(0, 1, len(logits))
    forth = paired_user_bootstrap(labels, logits, other, users, replicates=40)
    back = paired_user_bootstrap(labels, other, logits, users, replicates=40)
    for name in TESTED:
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


def test_delong_by_users_adds_up_their_placements() -> None:
    # Obuchowski 1997, equation 4, with loops over users.
    random = np.random.default_rng(5)
    users = random.integers(0, 9, 80)
    labels = random.integers(0, 2, 80)
    a, b = np.round(random.normal(labels, 1), 1), np.round(random.normal(labels, 2), 1)
    kernels = [
        (gap > 0) + 0.5 * (gap == 0)
        for gap in (each[labels == 1][:, None] - each[labels == 0][None, :] for each in (a, b))
    ]
    kernel = kernels[0] - kernels[1]
    delta, positives, negatives = kernel.mean(), *kernel.shape
    wins, losses = kernel.mean(axis=1) - delta, kernel.mean(axis=0) - delta
    of_wins = np.array([wins[users[labels == 1] == user].sum() for user in range(9)])
    of_losses = np.array([losses[users[labels == 0] == user].sum() for user in range(9)])
    variance = 9 / 8 * ((of_wins / positives + of_losses / negatives) ** 2).sum()  # all users hold both
    assert all(len(np.unique(labels[users == user])) == 2 for user in range(9))
    sizes = [np.bincount(users[labels == label]) for label in (0, 1)]
    freedom = min(size.sum() ** 2 / (size**2).sum() for size in sizes) - 1
    test = delong(labels, a, b, groups=users)
    assert test.delta == pytest.approx(delta, abs=1e-12)
    error = math.sqrt(variance)
    assert test.high - test.delta == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=1e-9)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(delta) / error, freedom), rel=1e-9)


def test_delong_by_users_of_one_row_each_has_the_variance_of_rows() -> None:
    random = np.random.default_rng(6)
    labels = random.integers(0, 2, 5000)
    a, b = random.normal(labels, 1), random.normal(labels, 2)
    by_rows, by_users = delong(labels, a, b), delong(labels, a, b, groups=np.arange(5000))
    assert by_users.high == pytest.approx(by_rows.high, rel=1e-2)  # t with thousands of degrees


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
    assert one_positive.reason == "one row holds a whole class"
    assert delong([0, 0, 1, 1], [1.0, 2, 3, 4], [1.0, 3, 2, 4], groups=[1, 2, 3, 3]).reason == (
        "one user holds a whole class"
    )
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
