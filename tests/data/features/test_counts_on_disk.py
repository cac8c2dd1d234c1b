import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.features.counts_in_memory import counts_before, newest_before
from clickscale.data.features.counts_on_disk import count_on_disk


@st.composite
def logs(draw: st.DrawFn):
    rows = draw(st.integers(1, 40))

    def numbers(low, high):
        return np.array(draw(st.lists(st.integers(low, high), min_size=rows, max_size=rows)))

    return numbers(-2, 3), numbers(0, 30), numbers(-1, 1), draw(st.integers(0, 12)), draw(st.integers(0, 20))


@given(logs(), st.integers(4, 60))
@settings(max_examples=60, deadline=None)
def test_counts_on_disk_equal_counts_in_memory(tmp_path_factory, log, memory_rows):
    key, time, label, delay, window = log
    slotted = np.stack([key + 2, np.where(key > 0, key + 9, -1)], axis=1)  # a second slot, sometimes empty
    first, second = count_on_disk(
        lambda rows: slotted[rows],
        time,
        label.astype(np.int8),
        slots=2,
        delay=delay,
        window=window,
        memory_rows=memory_rows,
        folder=tmp_path_factory.mktemp("counts"),
    )
    for slot in range(2):
        there = slotted[:, slot] >= 0
        # Both slots of all rows are one pool of keys; the two ranges of keys do not meet.
        found = counts_before(slotted[there, slot], time[there], label[there], delay=delay, window=window)
        np.testing.assert_array_equal(first[slot::2][there], found.known)
        np.testing.assert_array_equal(second[slot::2][there], found.positives)


@given(logs(), st.integers(4, 60))
@settings(max_examples=30, deadline=None)
def test_sums_of_worth_on_disk_equal_sums_in_memory(tmp_path_factory, log, memory_rows):
    key, time, label, delay, window = log
    worth = np.where(label >= 0, 1000 * key - time, 0).astype(np.int16)
    spans = {"delay": delay, "window": window}
    known, sums = count_on_disk(
        lambda rows: key[rows, None] + 2,
        time,
        label.astype(np.int8),
        worth,
        slots=1,
        memory_rows=memory_rows,
        folder=tmp_path_factory.mktemp("counts"),
        **spans,
    )
    found = counts_before(key, time, label, worth, **spans)
    np.testing.assert_array_equal(known, found.known)
    np.testing.assert_array_equal(sums, found.positives)


@given(logs(), st.integers(4, 60))
@settings(max_examples=60, deadline=None)
def test_the_newest_positive_on_disk_equals_that_in_memory(tmp_path_factory, log, memory_rows):
    key, time, label, delay, window = log
    spans = {"delay": delay, "window": window}
    count, newest = count_on_disk(
        lambda rows: key[rows, None] + 2,
        time,
        label.astype(np.int8),
        slots=1,
        memory_rows=memory_rows,
        folder=tmp_path_factory.mktemp("counts"),
        newest=True,
        **spans,
    )
    found = newest_before(key, time, label, **spans)
    np.testing.assert_array_equal(count, found[0])
    np.testing.assert_array_equal(np.where(count > 0, newest, 0), found[1])


@pytest.mark.parametrize("keys", [1, 3, 500])
@pytest.mark.parametrize("moments", [1, 40, 10**9])
def test_keys_and_moments_may_spread_in_any_way(tmp_path, keys, moments):
    random = np.random.default_rng(keys)
    key, time = random.integers(0, keys, (2000, 1)), 1_500_000_000 + random.integers(0, moments, 2000)
    found, _ = count_on_disk(
        lambda rows: key[rows], time, None, slots=1, delay=0, window=0, memory_rows=100, folder=tmp_path
    )
    np.testing.assert_array_equal(found, counts_before(key[:, 0], time).rows)


def test_only_the_two_columns_of_counts_stay_on_disk(tmp_path):
    key, time = np.arange(300)[:, None] % 7, np.arange(300)
    count_on_disk(
        lambda rows: key[rows], time, None, slots=1, delay=0, window=0, memory_rows=50, folder=tmp_path
    )
    assert sorted(os.listdir(tmp_path)) == ["first.i8", "second.i8"]
