import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.metrics import (
    HistogramAUC,
    auc,
    gauc,
    group_pairs,
    log_loss,
    log_losses,
    rela_impr,
    relative_lift,
)

# Two users with both classes (7 and 3, worked out by hand below) and one who clicked everything; interleaved.
#   user 7: positives .9 .5, negatives .1 .9 .0: .9 wins 2 and ties 1, .5 wins 2: 4.5 of 6 pairs, AUC 0.75
#   user 3: positive .2, negatives .8 .1:                                        1 of 2 pairs,   AUC 0.5
USERS = np.array([7, 3, 7, 5, 3, 7, 7, 5, 3, 7])
LABELS = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
SCORES = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.5, 0.9, 0.4, 0.1, 0.0])


def few_levels(seed: int, rows: int, levels: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels and scores of few distinct values: ties everywhere."""
    random = np.random.default_rng(seed)
    return random.integers(0, 2, rows), random.integers(0, levels, rows) / levels


def labelled_scores(minimum: int = 2) -> st.SearchStrategy[list[tuple[bool, int]]]:
    return st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=minimum, max_size=40)


def test_auc_counts_the_pairs_ranked_rightly() -> None:
    assert auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75


def test_auc_counts_a_tie_as_half_a_pair() -> None:
    labels, scores = [0, 1, 1, 0], [1.0, 1.0, 2.0, 0.0]
    assert auc(labels, scores) == 3.5 / 4
    strict_wins = sum(p > n for p in (1.0, 2.0) for n in (1.0, 0.0)) / 4
    assert strict_wins != auc(labels, scores), "counting strict wins only would pass unseen"


def test_auc_of_a_constant_score_is_a_half() -> None:
    assert auc([0, 1, 1, 0, 0], np.zeros(5)) == 0.5


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_auc_against_scikit_learn_on_ties(seed: int, levels: int) -> None:
    labels, scores = few_levels(seed, 500, levels)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_weighted_auc_against_scikit_learn() -> None:
    labels, scores = few_levels(2, 400, 7)
    weights = np.random.default_rng(3).random(400)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc(labels, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_auc_reads_float32_and_integer_scores_alike() -> None:
    labels, scores = few_levels(4, 200, 8)
    whole = (scores * 8).astype(np.int32)
    assert auc(labels, whole) == auc(labels, whole.astype(np.float32)) == auc(labels, scores)


@given(labelled_scores())
def test_auc_does_not_change_under_a_rising_transform(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    np.testing.assert_equal(auc(labels, np.exp(scores) * 3 - 1), auc(labels, scores))


@given(labelled_scores())
def test_auc_of_reversed_scores_is_one_minus_it(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    np.testing.assert_allclose(auc(labels, -scores), 1.0 - auc(labels, scores), atol=1e-12)


@given(labelled_scores(), st.data())
def test_weights_repeat_rows(rows: list[tuple[bool, int]], data: st.DataObject) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    repeated = auc(np.repeat(labels, weights), np.repeat(scores, weights))
    np.testing.assert_allclose(auc(labels, scores, weights), repeated, atol=1e-12)


@pytest.mark.parametrize("labels", [[], [1], [0, 0], [1, 1, 1]])
def test_metrics_that_need_both_classes_are_nan_without_them(labels: list[int]) -> None:
    scores = np.arange(float(len(labels)))
    assert math.isnan(auc(labels, scores))
    assert math.isnan(gauc(labels, scores, np.zeros(len(labels), int)))


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("impressions", (5 * 0.75 + 3 * 0.5) / 8),
        ("uniform", (0.75 + 0.5) / 2),
        ("clicks", (2 * 0.75 + 1 * 0.5) / 3),
        ("pairs", 5.5 / 8),
    ],
)
def test_gauc_weighs_the_users_with_both_classes(weighting: str, expected: float) -> None:
    assert gauc(LABELS, SCORES, USERS, weighting) == pytest.approx(expected, abs=1e-15)  # type: ignore[arg-type]


def test_gauc_differs_from_counting_strict_wins_and_from_averaging_batches() -> None:
    right = gauc(LABELS, SCORES, USERS)
    strict = (5 * (4 / 6) + 3 * 0.5) / 8
    halves = [gauc(LABELS[half], SCORES[half], USERS[half]) for half in (slice(0, 5), slice(5, 10))]
    assert strict != pytest.approx(right)
    assert np.mean(halves) != pytest.approx(right)


def test_group_pairs_counts_what_hand_counting_counts() -> None:
    pairs = group_pairs(LABELS, SCORES, USERS)
    np.testing.assert_array_equal(pairs.groups, [3, 5, 7])
    np.testing.assert_array_equal(pairs.impressions, [3, 2, 5])
    np.testing.assert_array_equal(pairs.positives, [1, 2, 2])
    np.testing.assert_array_equal(pairs.won, [1.0, 0.0, 4.5])
    np.testing.assert_array_equal(pairs.auc, [0.5, np.nan, 0.75])


@pytest.mark.parametrize("levels", [1, 3, 50])
def test_gauc_against_scikit_learn_user_by_user(levels: int) -> None:
    labels, scores = few_levels(levels, 600, levels)
    users = np.random.default_rng(9).integers(-(2**62), 2**62, 70)[
        np.random.default_rng(8).integers(0, 70, 600)
    ]
    total = weight = 0.0
    for user in np.unique(users):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            total += mine.sum() * roc_auc_score(labels[mine], scores[mine])
            weight += mine.sum()
    assert gauc(labels, scores.astype(np.float32), users) == pytest.approx(total / weight, abs=1e-12)


@given(labelled_scores())
def test_gauc_with_one_group_is_auc(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    np.testing.assert_allclose(gauc(labels, scores, np.full(len(rows), 42)), auc(labels, scores), atol=1e-12)


@given(labelled_scores(), st.randoms(use_true_random=False))
def test_gauc_sees_neither_the_order_of_rows_nor_a_users_own_shift(
    rows: list[tuple[bool, int]], random: object
) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    users = np.arange(len(rows)) % 3
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shifted = scores + 100.0 * users
    np.testing.assert_allclose(gauc(labels[order], shifted[order], users[order]), gauc(labels, scores, users))


def test_log_loss_of_known_logits() -> None:
    # Even odds cost ln 2 either way; odds of 3 to 1 cost ln(4/3) if right and ln 4 if wrong.
    assert log_loss([1, 0], [0.0, 0.0]) == pytest.approx(math.log(2), abs=1e-15)
    assert log_loss([1], [math.log(3)]) == pytest.approx(math.log(4 / 3), abs=1e-15)
    assert log_loss([0], [math.log(3)]) == pytest.approx(math.log(4), abs=1e-15)


def test_log_loss_stays_finite_where_probabilities_are_0_and_1() -> None:
    np.testing.assert_allclose(log_losses([1, 0, 1], [-1000.0, 1000.0, 1000.0]), [1000.0, 1000.0, 0.0])
    with np.errstate(divide="ignore", over="ignore"):
        through_probabilities = -np.log(1.0 / (1.0 + np.exp(1000.0)))
    assert math.isinf(through_probabilities), "the stable form would not be needed"


def test_log_loss_against_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 2, 300), random.normal(0, 3, 300)
    assert log_loss(labels, logits) == pytest.approx(
        sklearn_log_loss(labels, 1 / (1 + np.exp(-logits))), abs=1e-12
    )


def test_log_loss_of_float32_logits_is_summed_in_float64() -> None:
    rows = 1_000_000
    assert log_loss(np.zeros(rows), np.full(rows, 0.1, np.float32)) == pytest.approx(
        math.log1p(math.exp(np.float32(0.1))), rel=1e-13
    )


def test_log_loss_without_rows_is_nan() -> None:
    assert math.isnan(log_loss([], []))


def test_rela_impr_recomputes_a_cell_of_the_paper() -> None:
    # SUAN(L) over DIN on Taobao in Table 2 of Lai et al. 2025, printed with two digits swapped as 24.97.
    assert rela_impr(0.6495, 0.6198) == pytest.approx(24.79, abs=0.005)
    assert math.isnan(rela_impr(0.7, 0.5))


def test_relative_lift_subtracts_nothing() -> None:
    assert relative_lift(0.66, 0.6) == pytest.approx(10.0)
    assert math.isnan(relative_lift(0.66, 0.0))


def test_histogram_auc_is_exact_when_every_score_has_its_bin() -> None:
    histogram = HistogramAUC(low=0.0, high=1.0, bins=10)
    histogram.update([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert histogram.value() == 0.75
    assert histogram.error_bound() == 0.0


def test_histogram_auc_counts_pairs_of_one_bin_as_halves_and_bounds_the_error() -> None:
    histogram = HistogramAUC(low=0.0, high=1.0, bins=2)
    histogram.update([1, 0, 0], [0.3, 0.1, 0.9])
    assert histogram.value() == 0.25  # the exact AUC is 0.5
    assert histogram.error_bound() == 0.25


def test_histogram_auc_of_merged_workers_is_within_its_bound_of_the_exact_auc() -> None:
    random = np.random.default_rng(5)
    labels, logits = random.integers(0, 2, 4000), random.normal(-2, 2, 4000)
    workers = [HistogramAUC(bins=4096) for _ in range(4)]
    for worker, rows in zip(workers, np.array_split(np.arange(4000), 4), strict=True):
        for batch in np.array_split(rows, 3):
            worker.update(labels[batch], logits[batch])
    for other in workers[1:]:
        workers[0].merge(other)
    exact = auc(labels, logits)
    assert 0 < workers[0].error_bound() < 1e-3
    assert abs(workers[0].value() - exact) <= workers[0].error_bound()


def test_histogram_auc_keeps_logits_beyond_its_range_in_the_end_bins() -> None:
    histogram = HistogramAUC(bins=8)
    histogram.update([1, 0, 1], [1e30, -1e300, -1e300])
    assert histogram.value() == (1 + 0.5) / 2


def test_histogram_auc_without_both_classes_is_nan() -> None:
    histogram = HistogramAUC(bins=8)
    assert math.isnan(histogram.value())
    histogram.update([1, 1], [0.0, 1.0])
    assert math.isnan(histogram.value())


def test_histograms_of_other_bins_do_not_merge() -> None:
    with pytest.raises(ConfigError, match="do not add up"):
        HistogramAUC(bins=8).merge(HistogramAUC(bins=16))
    with pytest.raises(ConfigError, match="low < high"):
        HistogramAUC(low=1.0, high=1.0)


@pytest.mark.parametrize(
    ("labels", "scores", "complaint"),
    [
        ([0, 2], [0.1, 0.2], r"labels\[1\] is .*2"),
        ([0, math.nan], [0.1, 0.2], r"labels\[1\] is .*nan"),
        ([0, 0.5], [0.1, 0.2], r"labels\[1\]"),
        (["0", "1"], [0.1, 0.2], r"labels\[0\]"),
        ([0, 1], [0.1, math.nan], r"\[1\] is nan; 1 of 2 are not finite"),
        ([0, 1], [math.inf, 0.2], r"\[0\] is inf"),
        ([0, 1], ["a", "b"], "give real numbers"),
        ([0, 1], [1j, 2j], "give real numbers"),
        ([0, 1, 1], [0.1, 0.2], "labels has 3, .* has 2"),
        ([[0], [1]], [0.1, 0.2], r"shape \(2, 1\)"),
        ([0, 1], [[0.1, 0.2]], r"shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [auc, log_loss, lambda y, z: gauc(y, z, [1, 1]), lambda y, z: HistogramAUC(bins=8).update(y, z)],
    ids=["auc", "log_loss", "gauc", "histogram"],
)
def test_values_that_cannot_be_right_are_refused(
    metric: Callable[[object, object], object], labels: object, scores: object, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        metric(labels, scores)


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([1], "groups has 1"),
        ([1.0, 2.0], "give integers"),
        (["a", "b"], "give integers"),
        ([[1, 2]], "shape"),
    ],
)
def test_groups_that_are_not_one_integer_per_row_are_refused(groups: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        gauc([0, 1], [0.1, 0.2], groups)  # type: ignore[arg-type]


def test_weights_below_zero_and_unknown_weightings_are_refused() -> None:
    with pytest.raises(DataError, match=r"weights\[1\] is -1.0"):
        auc([0, 1], [0.1, 0.2], [1.0, -1.0])
    with pytest.raises(DataError, match="weights has 1"):
        auc([0, 1], [0.1, 0.2], [1.0])
    with pytest.raises(ConfigError, match="did you mean 'clicks'"):
        gauc([0, 1], [0.1, 0.2], [1, 1], "click")  # type: ignore[arg-type]
