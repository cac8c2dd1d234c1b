"""What a sample tells of outcomes beyond what single fields tell."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_STEPS = 5  # of Newton; later ones change nothing
_BINS = 6
_PRIOR = 20.0  # rows of mean zero, as in the rates of `Statistic`

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


def told_beyond(
    fields: Sequence[Codes],
    more: Codes,
    label: Floats,
    *,
    group: Codes | None = None,
    within: Codes | None = None,
) -> float:
    """Measure how far something tells an outcome beyond what some fields tell.

    Over one half of the rows, an effect of each value of every field is fitted, on the scale of logits; the
    means of what it leaves, for each value of ``more``, must agree with the other half.

    Args:
        fields: (N,) numbers of the values of each, 0 for none.
        more: (N,) numbers of its values, 0 for none.
        label: (N,) outcomes, NaN where unknown.
        group: (N,) numbers of groups of rows that are not independent, such as those of a user: each lies in
            one half as a whole, and counts once in the error. By default each row is its own group.
        within: (N,) numbers of groups of rows within which alone ``more`` is to tell something.

    Returns:
        The agreement over its standard error: about normal, a little below 0, where nothing is told.
    """
    usable = (more > 0) & np.isfinite(label)
    for field in fields:
        usable &= field > 0
    known, more, outcome = [field[usable] for field in fields], more[usable], label[usable]
    if not len(outcome):
        return 0.0
    alike = np.arange(len(outcome)) if group is None else group[usable]
    groups = np.unique(alike, return_inverse=True)[1]
    first = groups % 2 == 0
    agreement = np.zeros(len(outcome))
    for seen in (first, ~first):
        left = outcome - _added(known, outcome, seen)
        if within is not None:
            for part in (seen, ~seen):
                left -= part * _means(within[usable], left, part, 0.0)[within[usable]]
        agreement += _means(more, left, seen)[more] * left * ~seen
    error = float(np.sqrt(np.square(np.bincount(groups, agreement)).sum()))
    return float(agreement.sum()) / error if error else 0.0


def _added(fields: Sequence[Codes], outcome: Floats, seen: _Flags) -> Floats:
    """Fit probabilities (N,) whose logits add an effect of each field, over the rows seen.

    Newton's steps, field by field, each effect with a normal prior.
    """
    rate = float(np.clip(outcome[seen].mean(), 1e-4, 1 - 1e-4)) if seen.any() else 0.5
    base = np.log(rate / (1 - rate))
    effects = [np.zeros(int(field.max()) + 1) for field in fields]
    for _ in range(_STEPS):
        for number, field in enumerate(fields):
            chance = _chance(base, effects, fields)
            slope = np.bincount(field[seen], (outcome - chance)[seen], len(effects[number]))
            bend = np.bincount(field[seen], (chance * (1 - chance))[seen], len(effects[number]))
            effects[number] += (slope - effects[number]) / (bend + 1)
    return _chance(base, effects, fields)


def _chance(base: float, effects: Sequence[Floats], fields: Sequence[Codes]) -> Floats:
    """(N,) probabilities of summed logits."""
    logits = base + sum(effect[field] for effect, field in zip(effects, fields, strict=True))
    return np.asarray(1 / (1 + np.exp(-logits)))


def _means(field: Codes, values: Floats, seen: _Flags, prior: float = _PRIOR) -> Floats:
    """Mean of ``values`` (N,) for each value of a field over the rows seen, pulled towards zero."""
    size = int(field.max()) + 1
    counts = np.bincount(field[seen], minlength=size)
    return np.bincount(field[seen], values[seen], size) / np.maximum(counts + prior, 1)


def joined(one: Codes, other: Codes) -> Codes:
    """Numbers (N,) from 1 on of the pairs of values, few as there are: of many users few have most values."""
    pairs = one * (int(other.max(initial=0)) + 1) + other
    return np.unique(pairs, return_inverse=True)[1].ravel() + 1


def binned(values: Floats) -> Codes:
    """Numbers (N,) from 1 on of bins that hold about as many values each."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right") + 1
