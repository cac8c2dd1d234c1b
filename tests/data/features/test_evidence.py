import numpy as np
import pytest

from clickscale.data.features.evidence import _own_auc, auc, evidence, quantile_groups

RANDOM = np.random.default_rng(0)


def test_own_auc_is_measured_on_rows_that_did_not_teach_it():
    positive = RANDOM.random(4000) < 0.3
    memory = np.arange(4000)[:, None] // 2  # 2000 groups of two rows: a memory of the outcome would score 1
    assert 0.45 < _own_auc(memory, RANDOM.permutation(positive)) < 0.55
    assert _own_auc(positive[:, None].astype(np.int64), positive) == 1.0
    assert np.isnan(_own_auc(memory[:20], positive[:20]))


def test_copies_of_rows_that_stand_together_do_not_tell_the_outcome_of_each_other():
    positive = RANDOM.random(400) < 0.3
    often = np.where(positive, 15, 1)
    memory = np.repeat(np.arange(400), often)[:, None]  # each row has a group of its own, as its copies have
    copied = np.repeat(positive, often)
    assert not evidence(memory, copied)
    assert evidence(copied[:, None].astype(np.int64), copied)


def test_auc_counts_ties_half():
    assert auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, True, False, True])) == 3.5 / 4
    assert auc(np.ones(3), np.ones(3, bool)) == 0.5


@pytest.mark.parametrize(
    ("share", "purity", "base", "tells"),
    [(0.2, 1.0, 0.3, True), (0.02, 1.0, 0.3, False), (0.2, 0.9, 0.3, False), (0.2, 1.0, 0.7, False)],
)
def test_a_value_tells_if_it_is_all_positive_and_frequent(share, purity, base, tells):
    positive = RANDOM.random(20_000) < base
    has = (positive & (RANDOM.random(20_000) < share)).astype(np.int64)
    spoiled = np.flatnonzero(~positive)[: int(has.sum() * (1 / purity - 1))]
    has[spoiled] = 1
    how = evidence(has[:, None], positive)
    assert bool(how) == tells
    assert not tells or "of the positives have, and hardly a negative" in how


def test_missing_numbers_have_a_group_of_their_own():
    groups = quantile_groups(np.array([np.nan, 1.0, 2.0, np.nan, 2.0]))[:, 0]
    assert groups.tolist() == [0, 1, groups[2], 0, groups[2]]
    assert groups[2] > 1
    assert not quantile_groups(np.full(3, np.nan)).any()
