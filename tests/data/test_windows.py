"""Windows against a server that is played step by step."""

import numpy as np
import pytest

from clickscale.arrays import Ints
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.windows import look_back, make_windows, replay_windows, served_windows
from tests.data.tiny import tiny_dataset, tiny_source


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("windows"), tiny_source()))


class Shown:
    """Impressions of users 0, 1, ... of whom each has so many visible behaviors at each; rows are behaviors.

    Stands for a data set in which the counts are chosen by hand.
    """

    def __init__(self, *visible: list[int]) -> None:
        self.impressions = {
            "user": np.repeat(np.arange(len(visible)), [len(each) for each in visible]),
            "visible": np.concatenate([np.array(each, dtype=np.int64) for each in visible]),
        }
        self.users = {"offsets": np.arange(len(visible) + 1) * 1000}
        self.rows = np.arange(len(self.impressions["user"]))


def replayed(shown: Shown, length: int, slack: int) -> list[tuple[int, int, int, int]]:
    """First impression, number of them, first and last behavior of each window."""
    made = replay_windows(shown, shown.rows, length, slack)  # type: ignore[arg-type]
    assert (made.length == length + slack).all()
    return list(
        zip(made.first.tolist(), made.count.tolist(), made.start.tolist(), made.end.tolist(), strict=True)
    )


def test_a_state_is_made_anew_when_it_would_hold_more_than_length_and_slack() -> None:
    shown = Shown([4, 5, 6, 7, 8, 9, 30], [0, 1, 9])
    # The first state holds behaviors 0-3, then up to six; for the seventh it is made anew.
    assert replayed(shown, 4, 2) == [
        (0, 3, 0, 6),
        (3, 3, 3, 9),
        (6, 1, 26, 30),
        (7, 2, 1000, 1001),
        (9, 1, 1005, 1009),
    ]


def test_a_young_user_keeps_one_state_until_length_and_slack_are_full() -> None:
    assert replayed(Shown([0, 3, 6, 7]), 4, 2) == [(0, 3, 0, 6), (3, 1, 3, 7)]


def test_windows_of_very_many_impressions_are_divided_over_the_same_behaviors() -> None:
    shown = Shown([7] * 1500 + [8] * 600)
    assert replayed(shown, 4, 2) == [(0, 1024, 3, 7), (1024, 1024, 3, 8), (2048, 52, 3, 8)]


def served(dataset: Dataset, rows: Ints, length: int, slack: int) -> list[tuple[int, int]]:
    """First and last behavior that each impression sees when a server works through them one by one."""
    found, held = [], {}
    for row in rows.tolist():
        user, visible = int(dataset.impressions["user"][row]), int(dataset.impressions["visible"][row])
        start = held.get(user)
        if start is None or visible - start > length + slack:
            start = held[user] = max(visible - length, 0)
        offset = int(dataset.users["offsets"][user])
        found.append((offset + start, offset + visible))
    return found


@pytest.mark.parametrize(("length", "slack"), [(1, 1), (3, 1), (3, 5), (5, 2), (500, 1), (1, 500)])
def test_a_replay_is_what_a_server_does_impression_by_impression(
    log: Dataset, length: int, slack: int
) -> None:
    rows = log.part("train")
    made = replay_windows(log, rows, length, slack)
    visible = np.asarray(log.impressions["visible"])[rows]
    offset = np.asarray(log.users["offsets"])[np.asarray(log.impressions["user"])[rows]]
    seen: list[tuple[int, int]] = []
    for first, count, start in zip(made.first, made.count, made.start, strict=True):
        seen += [(int(start), int(offset[place] + visible[place])) for place in range(first, first + count)]
    assert seen == served(log, rows, length, slack)
    assert (made.end - made.start).max() <= length + slack


def test_slack_saves_states(log: Dataset) -> None:
    rows = log.part("train")
    numbers = [len(replay_windows(log, rows, 4, slack)) for slack in (0, 2, 8, 1000)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 2 * numbers[2]
    assert numbers[-1] == len(np.unique(np.asarray(log.impressions["user"])[rows]))


def test_without_slack_each_number_of_visible_behaviors_is_a_state(log: Dataset) -> None:
    shown = Shown([5, 5, 6, 9, 9, 9])
    assert replayed(shown, 3, 0) == [(0, 2, 2, 5), (2, 1, 3, 6), (3, 3, 6, 9)]


def test_a_row_of_a_timeline_holds_as_many_impressions_as_its_window() -> None:
    shown = Shown(list(range(2500)))
    made = make_windows(shown, shown.rows, "timeline", 1000, 250)  # type: ignore[arg-type]
    assert made.count.tolist() == [250] * 10
    assert (made.end - made.start).max() == 1249  # the last impression sees one less than its place
    wide = make_windows(shown, shown.rows, "timeline", 1000)  # type: ignore[arg-type]
    assert wide.count.tolist() == [1000, 1000, 500]


@pytest.mark.parametrize("grouping", ["timeline", "request", "impression"])
def test_looking_back_another_length_moves_only_the_start(log: Dataset, grouping: str) -> None:
    rows = log.part("train")
    short, long = (make_windows(log, rows, grouping, length, 4) for length in (3, 7))  # type: ignore[arg-type]
    again = look_back(log, rows, short, np.full(len(short), 7))
    for name in ("first", "count", "start", "end", "length"):
        assert np.array_equal(getattr(again, name), getattr(long, name))
    assert (long.start < short.start).any()


def test_each_window_looks_back_its_own_length(log: Dataset) -> None:
    rows = log.part("train")
    windows = make_windows(log, rows, "request", 3)
    length = np.arange(len(windows)) % 5 + 1
    made = look_back(log, rows, windows, length)
    visible = np.asarray(log.impressions["visible"])[rows[made.first]]
    assert np.array_equal(made.end - made.start, np.minimum(visible, length))


# --- windows as a server scores


def timed(shown: Shown, *times: list[int]) -> Shown:
    """The same log with a time for each impression."""
    shown.impressions["time"] = np.concatenate([np.array(each) for each in times])
    return shown


def test_requests_share_a_window_as_long_as_nothing_of_their_history_is_cut() -> None:
    shown = timed(Shown([2, 3, 4, 5, 5, 7], [9, 9], [0]), [1, 2, 3, 4, 4, 5], [1, 2], [1])
    several, single = served_windows(shown, shown.rows, 4, 4)  # type: ignore[arg-type]
    assert (several.first.tolist(), several.count.tolist()) == ([0], [3])
    assert (several.start.tolist(), several.end.tolist()) == ([0], [4])
    assert (single.first.tolist(), single.count.tolist()) == ([3, 5, 6, 7, 8], [2, 1, 1, 1, 1])
    assert single.start.tolist() == [1, 3, 1005, 1005, 2000]
    assert single.end.tolist() == [5, 7, 1009, 1009, 2000]


def test_a_request_alone_in_its_window_keeps_all_its_candidates() -> None:
    shown = timed(Shown([3, 3, 9, 9]), [1, 1, 2, 2])
    several, single = served_windows(shown, shown.rows, 4, 4)  # type: ignore[arg-type]
    assert len(several) == 0
    assert single.count.tolist() == [2, 2]


def test_requests_share_fewer_behaviors_than_they_see_if_a_model_reads_fewer() -> None:
    shown = timed(Shown([2, 3, 4, 5, 6]), [1, 2, 3, 4, 5])
    several, single = served_windows(shown, shown.rows, 5, 3)  # type: ignore[arg-type]
    assert (several.first.tolist(), several.count.tolist()) == ([0], [2])
    assert single.start.tolist() == [0, 0, 1]
    assert (several.length == 5).all()
    assert (single.length == 5).all()


def test_a_user_of_very_many_requests_is_divided_over_the_first_behaviors() -> None:
    shown = timed(Shown([0] * 1500 + [1] * 600), list(range(2100)))
    several, single = served_windows(shown, shown.rows, 4, 4)  # type: ignore[arg-type]
    assert several.count.tolist() == [1024, 1024, 52]
    assert several.start.tolist() == [0, 0, 0]
    assert several.end.tolist() == [0, 1, 1]
    assert len(single) == 0


@pytest.mark.parametrize(("length", "shared"), [(1, 1), (6, 6), (6, 3), (500, 500)])
def test_windows_as_served_hold_every_impression_once(log: Dataset, length: int, shared: int) -> None:
    rows = log.part("train")
    kinds = served_windows(log, rows, length, shared)
    held = [
        np.arange(first, first + count)
        for kind in kinds
        for first, count in zip(kind.first, kind.count, strict=True)
    ]
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(len(rows)))
    assert sum(map(len, kinds)) < len(make_windows(log, rows, "request", length)) or length == 1
