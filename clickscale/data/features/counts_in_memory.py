"""Counts of earlier rows with the same key, for logs that fit in memory.

`clickscale.data.features.counts_on_disk` gives the same numbers for longer ones, and
`clickscale.data.features.statistics` says what they are for.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickscale.errors import DataError

Integers = NDArray[np.int64]


class _Before(NamedTuple):
    """Counts of earlier rows for each row, (N,) int64 each: of all, of known labels, of positive ones."""

    rows: Integers
    known: Integers
    positives: Integers


def counts_before(
    key: NDArray[np.integer],
    time: NDArray[np.integer],
    label: NDArray[np.integer] | None = None,
    worth: NDArray[np.integer] | None = None,
    *,
    delay: int = 0,
    window: int = 0,
) -> _Before:
    """Count the earlier rows with the same key for each row; rows of the same second do not see each other.

    A row counts earlier rows from ``time - window`` on, and their labels if ``earlier time + delay < time``.

    Args:
        key: (N,) any integers.
        time: (N,) seconds, in any order.
        label: (N,) 1, 0, or anything negative for unknown; without labels nothing is ``known``.
        worth: (N,) addend of each known row to ``positives``; its label if None.
        delay: seconds after which a row's label is known.
        window: seconds looked back; 0 is all time.

    Raises:
        DataError: key and time together do not fit in 63 bits (times are then not seconds of one log).
    """
    spans = _spans(key, time, delay, window)
    labels = np.full(len(key), -1) if label is None else label[spans.order]
    counted = (
        spans.now - spans.oldest,
        _sums(labels >= 0, spans.oldest, spans.known),
        _sums(labels == 1 if worth is None else worth[spans.order], spans.oldest, spans.known),
    )
    answers = np.empty((3, len(key)), np.int64)
    answers[:, spans.order] = counted
    return _Before(*answers)


def sums_before(
    key: NDArray[np.integer],
    time: NDArray[np.integer],
    value: NDArray[np.floating],
    *,
    delay: int = 0,
    window: int = 0,
) -> NDArray[np.float64]:
    """Sum ``value`` (N,) over the earlier rows that `counts_before` calls known; NaN adds 0."""
    spans = _spans(key, time, delay, window)
    answer = np.empty(len(key))
    answer[spans.order] = _sums(np.nan_to_num(value[spans.order]), spans.oldest, spans.known)
    return answer


def newest_before(
    key: NDArray[np.integer],
    time: NDArray[np.integer],
    label: NDArray[np.integer],
    *,
    delay: int = 0,
    window: int = 0,
) -> tuple[Integers, Integers]:
    """Count the positives that `counts_before` counts, (N,), and find the time of the newest, (N,).

    The time is 0 where there is none.
    """
    spans = _spans(key, time, delay, window)
    positive = label[spans.order] == 1
    count = _sums(positive, spans.oldest, spans.known)
    newest = np.maximum.accumulate(np.where(positive, np.arange(len(key)), -1))
    moment = time[spans.order][newest[spans.known - 1]]  # where nothing is known, masked below
    answers = np.empty((2, len(key)), np.int64)
    answers[:, spans.order] = count, np.where(count > 0, moment, 0)
    return answers[0], answers[1]


class _Spans(NamedTuple):
    """Rows in the order of key and time; each counts rows [oldest, now) and labels [oldest, known)."""

    order: Integers
    oldest: Integers
    now: Integers
    known: Integers


def _spans(key: NDArray[np.integer], time: NDArray[np.integer], delay: int, window: int) -> _Spans:
    """Find the range of earlier rows of each row; see `counts_before`."""
    if len(key) == 0:
        return _Spans(*(np.zeros(0, np.int64) for _ in _Spans._fields))
    since = time.astype(np.int64) - int(time.min())
    span = int(since.max()) + 1
    code = _times_span(key, span) + since  # orders by key, then by time
    order = np.argsort(code)
    code, since = code[order], since[order]
    start = code - since  # code of the first possible moment of the same key

    def first(seconds_back: int) -> Integers:
        """Index of the first row of the same key that is older by ``seconds_back`` or less."""
        return np.searchsorted(code, start + np.maximum(since - min(seconds_back, span), 0))

    oldest, now = first(window or span), first(0)
    return _Spans(order, oldest, now, np.maximum(first(delay), oldest) if delay else now)


def _times_span(key: NDArray[np.integer], span: int) -> Integers:
    """Multiply the key by ``span``, or its rank if that would overflow."""
    low, high = int(key.min()), int(key.max())
    if max(-low, high) * span < 2**62:
        return key.astype(np.int64) * span
    values, inverse = np.unique(key, return_inverse=True)
    rank: Integers = inverse.astype(np.int64)
    if len(values) * span >= 2**63:
        raise DataError(
            f"{len(values)} keys over {span} seconds do not fit in 63 bits; check the unit of the times."
        )
    return rank * span


def _sums(values: NDArray[Any], begin: Integers, end: Integers) -> NDArray[Any]:
    """Sum the values in each [begin, end): exact for flags and integers, rounded for floats."""
    kind = np.float64 if values.dtype.kind == "f" else np.int64
    total = np.concatenate((np.zeros(1, kind), np.cumsum(values, dtype=kind)))
    return np.asarray(total[end] - total[begin])
