"""Whether the presence of a behavior, the moment or the place of a row tells the label.

A history must not tell more by what it holds than by what its behaviors mean. Six values are measured on
the training part, each as in `clickscale.data.features.evidence`:

* ``own_item``: seconds since a behavior with the candidate's own item, such as the click itself, logged with
  the time of another clock or before its impression;
* ``last_behavior``: seconds since the newest visible behavior of any item;
* ``history``: the number of visible behaviors, none included;
* ``new_item``: whether the item has an earlier event, as negatives have that somebody drew;
* ``moment``: the time, the time of day and the second of the minute;
* ``row_order``: the place of an impression among those of its user and moment. Models do not see it, but
  whoever numbers the rows does.
"""

from collections.abc import Iterator

import numpy as np

from clickscale.data.checks.telltales import newest_own
from clickscale.data.dataset import Dataset
from clickscale.data.features.evidence import (
    FEWEST,
    LIMIT,
    Integers,
    Suspicion,
    evidence,
    quantile_groups,
)
from clickscale.features import label_of

_SECONDS = 60  # within which a behavior with sampled negatives may be the impression's own
_HOUR, _DAY = 3600, 86_400
_CHUNK = 1 << 18

_MEANING = {
    "own_item": "the time since a behavior with the candidate's own item",
    "last_behavior": "the time since the newest visible behavior",
    "history": "the number of visible behaviors",
    "new_item": "whether its item is new",
    "moment": "the time of the impression",
}


def suspicious_presence(data: Dataset, rows: Integers) -> Iterator[Suspicion]:
    """Yield the values named above that tell a label; ``rows`` are the impressions that are looked at."""
    told: set[tuple[str, str]] = set()
    for name, groups in _values(data, rows):
        for label in data.labels:
            outcome = data.impressions[label_of(label)][rows]
            known = outcome >= 0
            # Sampled negatives are in no history, so some positives are told apart however honest it is.
            pure = name != "own_item" or not data.schema.sampled_negatives
            how = evidence(groups[known], outcome[known] == 1, pure=pure)
            if how and (name, label) not in told:
                told.add((name, label))
                yield Suspicion(name, f"{_MEANING[name]} tells label {label!r} {how}", int(known.sum()))
    yield from _order(data)


def _values(data: Dataset, rows: Integers) -> Iterator[tuple[str, Integers]]:
    """Yield (name, (rows, 1) groups)."""
    time, visible = data.impressions["time"][rows], data.impressions["visible"][rows]
    if len(data.behaviors["time"]):
        own = newest_own(data, rows)
        near = _doublings(time - data.behaviors["time"][np.maximum(own, 0)])
        near[own < 0] = 0
        if data.schema.sampled_negatives:  # for them, only the own event is a sign
            near[near > _doublings(np.array([_SECONDS]))] = 0
        yield "own_item", near[:, None]
        newest = data.users["offsets"][data.impressions["user"][rows]] + visible - 1
        since = _doublings(time - data.behaviors["time"][np.maximum(newest, 0)])
        since[visible == 0] = 0
        yield "last_behavior", since[:, None]
        yield "history", _doublings(visible)[:, None]
    new = data.items["first_seen"][data.impressions["item"][rows]] >= time
    yield "new_item", new.astype(np.int64)[:, None]
    yield "moment", quantile_groups(time.astype(np.float64))
    yield "moment", (time % _DAY // _HOUR)[:, None]
    yield "moment", (time % 60)[:, None]


def _doublings(numbers: Integers) -> Integers:
    """Group numbers by powers of two: 0, 1, 2 to 3, 4 to 7 and so on are 1, 2, 3, 4."""
    return 1 + np.ceil(np.log2(np.maximum(numbers, 0) + 1)).astype(np.int64)


def _order(data: Dataset) -> Iterator[Suspicion]:
    """Yield a suspicion for each label that the order of the log tells among rows of one user and moment."""
    for label in data.labels:
        before = after = 0  # neighbors of one moment whose first, or second, is the positive
        for rows in _overlapping(len(data.impressions["time"])):
            user, time, outcome = (data.impressions[name][rows] for name in ("user", "time", label_of(label)))
            pair = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
            before += int((pair & (outcome[:-1] == 1) & (outcome[1:] == 0)).sum())
            after += int((pair & (outcome[:-1] == 0) & (outcome[1:] == 1)).sum())
        most = max(before, after)
        if before + after >= FEWEST and most > LIMIT * (before + after):
            place = "before" if before == most else "after"
            message = (
                f"the order of rows tells label {label!r}: among neighbors of one user and moment, the "
                f"positive stands {place} the negative in {most / (before + after):.1%}"
            )
            yield Suspicion("row_order", message, before + after)


def _overlapping(rows: int) -> Iterator[slice]:
    """Yield slices of rows, each with the first row of the next."""
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows) + 1)
