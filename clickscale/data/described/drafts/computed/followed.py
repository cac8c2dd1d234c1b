"""What a sample says of what follows a user's newest click: the next episode, what goes with a purchase."""

from collections.abc import Sequence

import numpy as np

from clickscale.data.described.drafts.computed.told import Codes, Floats, binned, joined, told_beyond
from clickscale.data.features.counts_in_memory import counts_before
from clickscale.data.features.newest_positives import places_before

_PRIOR, _ROWS = 3, 8  # pseudo-rows of a rate; more rows count as so many


def told_by_newest(
    user: Codes, time: Codes, shown: Codes, label: Floats, more: Sequence[Codes] = ()
) -> float:
    """Measure how far what the newest positive of a user showed tells the outcome (`told_beyond`).

    It must tell more than what the user clicked before of what is shown, and than that both are the same.
    Users count once in the error.

    Args:
        user: (N,) numbers, 0 for none.
        time: (N,) seconds.
        shown: (N,) numbers of items, or of their values in a field; 0 for none.
        label: (N,) outcomes, NaN where unknown.
        more: (N,) numbers of what is known to tell the outcome, 0 for none.
    """
    outcome = np.where((user > 0) & np.isfinite(label), label, -1).astype(np.int64)
    if not (outcome == 1).any():
        return 0.0
    rate = outcome[outcome >= 0].mean()
    newest = _newest(user, time, shown, outcome)
    told = [shown, newest, (shown == newest) + 1, *more]
    for key in (user, joined(user, shown)):
        before = counts_before(key, time, outcome)
        told.append(binned((before.positives + _PRIOR * rate) / (before.known + _PRIOR)))
        told.append(np.minimum(before.known, _ROWS) + 1)
    known = np.where(outcome >= 0, outcome, np.nan)
    return told_beyond(told, _pairs(newest, shown), known, group=user)


def _newest(user: Codes, time: Codes, shown: Codes, outcome: Codes) -> Codes:
    """(N,) what the newest positive of the user before each row showed; 0 for none."""
    order = np.lexsort((time, user))
    who, when = user[order], time[order]
    positive = np.flatnonzero(outcome[order] == 1)
    place = places_before(who[positive], when[positive], who, when)
    newest = np.empty(len(user), np.int64)
    newest[order] = np.where(place >= 0, shown[order][positive[place]], 0)
    return newest


def _pairs(newest: Codes, shown: Codes) -> Codes:
    """Numbers (N,) of what followed what; 0 where either is missing."""
    return np.where((newest > 0) & (shown > 0), joined(newest, shown), 0)
