import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.source import Split
from clickscale.data.split import (
    _NEVER,
    Division,
    _user_boundaries,
    boundaries,
    bounds_of,
    check_split,
    division_warnings,
    part_of,
)
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
        (Split(kind="user_last"), "whole moments"),
        (Split(kind="column"), "name the column"),
        (Split(column="fold"), "name the column"),
    ],
)
def test_shares_that_make_no_sense_are_refused(split: Split, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_split(split)


def test_a_log_of_one_moment_has_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="no impression for training"):
        boundaries(np.full(10, 5), Split())


LAST = Split(kind="user_last", valid=1, test=1)


def test_the_last_moments_of_each_user_are_held_out_whole() -> None:
    offsets = np.array([0, 6, 8, 8, 10, 11])
    time = np.array([1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 8])
    user = np.repeat([0, 1, 3, 4], [6, 2, 2, 1])
    bounds = bounds_of(LAST, (), offsets, time)
    # The first user has four moments; the others have one, two and one, which leaves none for training.
    assert part_of(user, time, bounds).tolist() == [0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0]
    two = bounds_of(Split(kind="user_last", valid=0, test=2), (), offsets, time)
    assert part_of(user, time, two).tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0]
    none = bounds_of(Split(kind="user_last", valid=0, test=0), (), offsets, time)
    assert not part_of(user, time, none).any()


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=6),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_the_last_moments_are_those_of_a_plain_loop(users: list[list[int]], valid: int, test: int) -> None:
    times = [sorted(moments) for moments in users]
    offsets = np.cumsum([0, *map(len, times)])
    time = np.array([moment for moments in times for moment in moments], np.int64)
    expected = []
    for moments in times:
        distinct = sorted(set(moments))
        held = distinct[len(distinct) - valid - test :] if len(distinct) > valid + test else []
        expected += [0 if m not in held else 1 if held.index(m) < valid else 2 for m in moments]
    user = np.repeat(np.arange(len(times)), [len(moments) for moments in times])
    split = Split(kind="user_last", valid=valid, test=test)
    assert part_of(user, time, bounds_of(split, (), offsets, time)).tolist() == expected


GIVEN = Split(kind="column", column="fold")


def test_given_parts_stay_and_the_last_of_train_become_valid_if_no_row_is() -> None:
    time, user, offsets = np.arange(10), np.zeros(10, int), np.array([0, 10])
    given = np.array([0, 2, 0, 0, 0, 0, 0, 0, 0, 0], np.uint8)
    split = Split(kind="files", valid=0.25)
    fixed = boundaries(time, split, given)
    parts = Division(split, fixed, offsets, user, time, given)
    assert parts.part(slice(None)).tolist() == [0, 2, 0, 0, 0, 0, 0, 1, 1, 1]
    assert parts.bounds[0].tolist() == [1]  # what the user did from the first row outside of train
    with_valid = np.where(time == 5, 1, given).astype(np.uint8)
    assert boundaries(time, split, with_valid) == ()
    assert boundaries(time, Split(kind="files", valid=0), given) == ()


def test_given_parts_must_be_known_and_leave_something_to_train_on() -> None:
    with pytest.raises(DataError, match="prepare the log again with this split"):
        boundaries(np.arange(3), GIVEN)
    with pytest.raises(DataError, match="no row belongs to the part train"):
        boundaries(np.arange(3), GIVEN, np.array([1, 2, 2], np.uint8))


def said(split: Split, offsets: np.ndarray, time: np.ndarray) -> tuple[str, ...]:
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return division_warnings(split, Division(split, (), offsets, user, time, None), offsets, time)


def test_users_who_are_too_short_for_a_part_are_counted() -> None:
    offsets = np.array([0, 10, 12, 12, 17])
    time = np.concatenate([np.arange(10), [0, 1], np.arange(5)])
    (sentence,) = said(Split(kind="user_time"), offsets, time)
    assert "1 of 3 users have no impression in valid (2 to 2 impressions each)" in sentence
    assert "2 of 3 users have no impression in test (2 to 5 impressions each)" in sentence
    assert "empty" not in sentence
    assert said(LAST, offsets[:2], time[:10]) == ()
