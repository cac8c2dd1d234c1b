import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.preparation.records import Records
from clickscale.data.preparation.timelines import in_time, repeats, visible_before

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=25)  # (user, time)


def events(rows: list[tuple[int, int, int, float]]) -> Records:
    """Records of (user, item, time, x)."""
    names = ("user", "item", "time", "field.x")
    made = np.zeros(len(rows), [("row", "<i8"), *((name, "<i8") for name in names[:3]), ("field.x", "<f8")])
    made["row"] = np.arange(len(rows))
    for place, name in enumerate(names):
        made[name] = [row[place] for row in rows]
    return made


def test_events_stand_by_user_then_time_then_place_in_the_log() -> None:
    assert in_time(np.array([1, 0, 1, 0]), np.array([5, 9, 5, 3])).tolist() == [3, 1, 0, 2]


TIMES = st.integers(-(2**40), 2**40) | st.integers(0, 3)


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1) | st.integers(0, 3), TIMES), max_size=25))
def test_the_order_is_that_of_a_stable_sort_by_two_columns(rows: list[tuple[int, int]]) -> None:
    made = np.array(rows, np.int64).reshape(-1, 2)
    expected = sorted(range(len(rows)), key=lambda place: rows[place])
    assert in_time(made[:, 0], made[:, 1]).tolist() == expected


def test_only_rows_that_are_equal_in_everything_are_repeats() -> None:
    nan = float("nan")
    rows = [(0, 7, 1, 0.5), (0, 8, 1, 0.5), (0, 7, 1, 0.5), (0, 7, 1, 0.6), (0, 7, 2, 0.5), (1, 7, 2, nan)]
    rows += [(1, 7, 2, nan), (2, 7, 2, nan)]
    user = np.array([row[0] for row in rows])
    assert repeats(events(rows), user).tolist() == [False, False, True, False, False, False, True, False]


BITS = st.tuples(*[st.integers(0, 1)] * 4)


@given(st.lists(BITS, max_size=20))
def test_repeats_are_those_of_a_set(rows: list[tuple[int, int, int, int]]) -> None:
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    expected = [row in rows[:place] for place, row in enumerate(rows)]
    made = events([(u, i, t, float(x)) for u, i, t, x in rows])
    assert repeats(made, np.array([row[0] for row in rows], int)).tolist() == expected


@given(EVENTS, EVENTS)
def test_an_impression_sees_what_was_known_strictly_before(
    behaviors: list[tuple[int, int]], impressions: list[tuple[int, int]]
) -> None:
    behaviors = sorted(behaviors)
    expected = [sum(u == user and t < time for u, t in behaviors) for user, time in impressions]
    past, asked = np.array(behaviors, int).reshape(-1, 2), np.array(impressions, int).reshape(-1, 2)
    assert visible_before(past[:, 0], past[:, 1], asked[:, 0], asked[:, 1]).tolist() == expected
