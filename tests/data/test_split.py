import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.source import Split
from clickscale.data.split import _NEVER, _user_boundaries, boundaries, bounds_of, check_split, part_of
from clickscale.errors import ConfigError, DataError

DAY = 86_400


def test_ten_moments_are_cut_eight_one_one() -> None:
    assert boundaries(np.arange(100, 110), Split()) == (108, 109)


def test_equal_times_are_never_divided() -> None:
    time = np.array([1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
    bounds = boundaries(time, Split(valid=0.3, test=0.2))
    assert bounds == (2, 3)
    parts = part_of(np.zeros(10, int), time, np.array(bounds)[:, None])
    assert parts.tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


@given(
    st.lists(st.integers(0, 10**10), min_size=2, max_size=60),
    st.floats(0.0, 0.4),
    st.floats(0.0, 0.4),
)
def test_boundaries_are_the_order_statistics(times: list[int], valid: float, test: float) -> None:
    ranked = sorted(times)
    places = [int(len(times) * (1 - valid - test)), int(len(times) * (1 - test))]
    expected = tuple(ranked[place] if place < len(times) else _NEVER for place in places)
    if expected[0] <= ranked[0]:
        with pytest.raises(DataError, match="no impression for training"):
            boundaries(np.array(times), Split(valid=valid, test=test))
    else:
        assert boundaries(np.array(times), Split(valid=valid, test=test)) == expected


def test_the_last_days_are_cut_off_at_midnight() -> None:
    time = np.array([3 * DAY + 5, 10 * DAY - 1, 10 * DAY, 11 * DAY + 7])
    assert boundaries(time, Split(kind="day", valid=1, test=1)) == (10 * DAY, 11 * DAY)
    assert boundaries(time, Split(kind="day", valid=2, test=1)) == (9 * DAY, 11 * DAY)


def test_each_user_is_cut_by_own_time() -> None:
    offsets = np.array([0, 10, 11, 11, 16])
    time = np.concatenate([np.arange(10), [50], [7, 7, 7, 8, 8]])
    bounds = _user_boundaries(offsets, time, Split(kind="user_time"))
    assert bounds[0].tolist() == [
        8,
        _NEVER,
        _NEVER,
        8,
    ]  # places .1 .3 .5 .7 .9: the last is beyond .8
    assert bounds[1].tolist() == [9, _NEVER, _NEVER, _NEVER]
    user = np.repeat([0, 1, 3], [10, 1, 5])
    assert part_of(user, time, bounds).tolist() == [0] * 8 + [1, 2] + [0] + [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(bounds_of(Split(kind="user_time"), (), offsets, time), bounds)


@pytest.mark.parametrize(
    ("split", "complaint"),
    [
        (Split(valid=-0.1), "must be >= 0"),
        (Split(valid=0.5, test=0.5), "leave a share for training"),
        (Split(kind="user_time", test=1.0), "leave a share for training"),
        (Split(kind="day"), "whole days"),
    ],
)
def test_shares_that_make_no_sense_are_refused(split: Split, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_split(split)


def test_a_log_of_one_moment_has_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="no impression for training"):
        boundaries(np.full(10, 5), Split())
