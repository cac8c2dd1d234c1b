"""What the search for copied values computes, by hand."""

import numpy as np

from clickscale.data.checks.copies import _lift, _nearness

ITEM = np.array([0, 0, 0, 1, 1, 1])
LEARNED = np.array([True, True, False, True, True, False])


def test_numbers_are_near_to_an_item_by_ranks():
    values = np.array([1.0, 2.0, 9.0, 20.0, 30.0, 1.0])  # ranks 0, 2, 3, 4, 5, 0
    near = _nearness(values, ITEM, LEARNED)
    assert near.tolist() == [-1.0, -1.0, -2.0, -0.5, -0.5, -4.5]


def test_other_values_go_with_an_item_that_has_them_more_often_than_all_have():
    values = np.array([3, 3, 3, 5, 5, 3])
    lift = _lift(values, ITEM, LEARNED)
    share = (2 + 1) / (4 + 2)  # of either value, smoothed
    assert np.allclose(lift[:3], (2 + share) / 3 / share)
    assert np.allclose(lift[5], share / 3 / share)
