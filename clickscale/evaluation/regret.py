"""Measures of predictions against true probabilities, where those are known (`clickscale.world`).

Expected values are means over clicks drawn from the true probabilities, so the luck of the clicks that were
drawn is not in them. The best predictions are the true probabilities themselves; regret is the distance to
them.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from clickscale.arrays import Flags, Floats, Ints
from clickscale.evaluation.metrics import finite_numbers, group_codes, rank_pairs, same_length

_BINS = 20  # of the true calibration
_DRAWS = 100  # of clicks, for the standard error of an AUC


@dataclass(frozen=True)
class _Expected:
    """Expected AUC, GAUC and log-loss of predictions, and the sum of predicted over true probabilities."""

    auc: float
    gauc: float
    log_loss: float
    calibration: float


@dataclass(frozen=True)
class Regret:
    """Predictions of one label against the true probabilities.

    Attributes:
        expected: what the predictions reach.
        best: what the true probabilities reach, so no model can be better; its log-loss is their entropy.
        auc, gauc: best minus expected.
        log_loss: expected minus best, in nats: the mean divergence of the predictions from the truth.
        calibration_error: mean distance between predicted and true probability, in 20 bins of equal size.
        drawn_auc: AUC of the true probabilities on the clicks that were drawn, which luck moves.
        drawn_error: standard error of ``drawn_auc`` over draws of clicks.
    """

    label: str
    expected: _Expected
    best: _Expected
    auc: float
    gauc: float
    log_loss: float
    calibration_error: float
    drawn_auc: float
    drawn_error: float


def regret(
    label: str,
    clicks: Flags,
    logits: npt.ArrayLike,
    truth: npt.ArrayLike,
    groups: npt.ArrayLike,
    seed: int = 0,
) -> Regret:
    """Measure logits (N,) against the true probabilities ``truth`` (N,) of impressions of users ``groups``.

    Args:
        clicks: (N,) the clicks that were drawn.
        seed: of the draws behind ``drawn_error``.
    """
    logit = finite_numbers("logits", logits).astype(np.float64)
    true = finite_numbers("truth", truth).astype(np.float64)
    same_length({"logits": logit, "truth": true, "clicks": clicks})
    reached = expected(logit, true, groups)
    best = expected(np.log(true) - np.log1p(-true), true, groups)
    rng = np.random.default_rng(seed)
    drawn = [_auc(rng.random(len(true)) < true, true) for _ in range(_DRAWS)]
    return Regret(
        label=label,
        expected=reached,
        best=best,
        auc=best.auc - reached.auc,
        gauc=best.gauc - reached.gauc,
        log_loss=reached.log_loss - best.log_loss,
        calibration_error=_calibration_error(expit(logit), true),
        drawn_auc=_auc(clicks, true),
        drawn_error=float(np.std(drawn)),
    )


def expected(logits: npt.ArrayLike, truth: npt.ArrayLike, groups: npt.ArrayLike) -> _Expected:
    """Compute expected measures of logits (N,) where clicks are drawn from ``truth`` (N,).

    An AUC is the expected number of pairs that are ranked rightly over the expected number of pairs. In GAUC
    a user has this AUC, and counts with its impressions times the probability that it has both a click and
    none.
    """
    logit = finite_numbers("logits", logits).astype(np.float64)
    true = finite_numbers("truth", truth).astype(np.float64)
    _, codes = group_codes(groups)
    same_length({"logits": logit, "truth": true, "groups": codes})
    everyone = np.zeros(len(logit), np.int64)
    won, pairs = _pairs(everyone, logit, true)
    losses = true * np.logaddexp(0.0, -logit) + (1 - true) * np.logaddexp(0.0, logit)
    return _Expected(
        auc=float(won[0] / pairs[0]) if len(won) and pairs[0] > 0 else math.nan,
        gauc=_gauc(codes, logit, true),
        log_loss=float(losses.mean()) if len(losses) else math.nan,
        calibration=float(expit(logit).sum() / true.sum()) if true.any() else math.nan,
    )


def _pairs(codes: Ints, logit: Floats, true: Floats) -> tuple[Floats, Floats]:
    """(U,) expected pairs of each group that are ranked rightly, and all expected pairs; ties count 1/2."""
    order = np.lexsort((logit, codes))
    codes, logit, true = codes[order], logit[order], true[order]
    new_group = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
    new_block = (new_group | np.append(True, logit[1:] != logit[:-1])[: len(codes)]).nonzero()[0]
    starts = new_group.nonzero()[0]
    if not len(starts):
        return np.zeros(0), np.zeros(0)
    clicks, others = np.add.reduceat(true, new_block), np.add.reduceat(1 - true, new_block)
    before = np.cumsum(others) - others
    first = np.searchsorted(new_block, starts)  # block in which each group begins
    below = before - np.repeat(before[first], np.diff(np.append(first, len(new_block))))
    alone = np.add.reduceat(true * (1 - true), starts)  # no impression makes a pair with itself
    won = np.add.reduceat(clicks * (below + others / 2), first) - alone / 2
    pairs = np.add.reduceat(true, starts) * np.add.reduceat(1 - true, starts) - alone
    return won, pairs


def _gauc(codes: Ints, logit: Floats, true: Floats) -> float:
    """Expected GAUC; see `expected`."""
    won, pairs = _pairs(codes, logit, true)
    count = np.bincount(codes)
    none = np.exp(np.bincount(codes, weights=np.log1p(-true)))
    all_of_them = np.exp(np.bincount(codes, weights=np.log(true)))
    weight = count * np.maximum(1 - none - all_of_them, 0) * (pairs > 0)
    share = np.divide(won, pairs, out=np.zeros(len(won)), where=pairs > 0)
    return float(weight @ share / weight.sum()) if weight.sum() > 0 else math.nan


def _auc(clicks: Flags, score: Floats) -> float:
    ranked = rank_pairs(clicks, score)
    return ranked.auc(np.ones(len(ranked.positives)), np.ones(len(ranked.negatives)))


def _calibration_error(predicted: Floats, true: Floats) -> float:
    """Mean distance of the means in bins of equal size."""
    order = np.argsort(predicted, kind="stable")
    gaps = [
        abs(float(predicted[rows].sum() - true[rows].sum()))
        for rows in np.array_split(order, _BINS)
        if len(rows)
    ]
    return sum(gaps) / len(true) if len(true) else math.nan
