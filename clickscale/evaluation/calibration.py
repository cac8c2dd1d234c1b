"""Calibration: whether the predicted click probabilities add up to the clicks.

`labels` (N,) in {0, 1}; `probabilities` (N,) in [0, 1], already rectified if training dropped negatives. What
is not defined on the given rows is nan; impossible values raise `DataError`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from clickscale.arrays import Floats, Ints
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.metrics import binary_labels, finite_numbers, group_codes, same_length

ECE_BINS = 20
"""Bins of equal mass, by default."""


def pcoc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Predicted over observed clicks: sum p / sum y; 1 is calibrated on average, nan without a click."""
    positive, probability = binary_labels(labels), _checked_probabilities(probabilities)
    same_length({"labels": positive, "probabilities": probability})
    clicks = int(positive.sum())
    return float(probability.sum()) / clicks if clicks else math.nan


def ece(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Expected calibration error: sum over bins of (rows of the bin / N) |mean p - mean y|; nan without rows.

    The bins hold equally many rows (equal mass, not equal width: click probabilities crowd near 0, where bins
    of equal width would be one bin). See `equal_mass_bins` for ties. Noise pushes it up: see `debiased_ece`.
    """
    curve = reliability_curve(labels, probabilities, bins)
    gaps = np.abs(curve.mean_probability - curve.mean_label)
    return float(curve.rows @ gaps) / float(curve.rows.sum()) if curve.rows.size else math.nan


def debiased_ece(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, groups: npt.ArrayLike, bins: int = ECE_BINS
) -> float:
    """Calibration error of which noise would make the `ece` that is measured.

    Noise never cancels in |mean p - mean y|, so the ECE of a perfect model is above 0 and that of few rows
    far above. The gaps of all bins are shrunk by one factor in [0, 1], so that with normal noise on top their
    mean absolute value is the measured one. The noise of a bin is that over users, whose rows are alike.

    `groups` (N,) user ids. 0 if noise alone explains the gaps. nan with fewer than two users.
    """
    positive, probability = binary_labels(labels), _checked_probabilities(probabilities)
    users, codes = group_codes(groups)
    same_length({"labels": positive, "probabilities": probability, "groups": codes})
    if len(users) < 2:
        return math.nan
    bin_of_row = equal_mass_bins(probability, bins)
    # A sort of small integers takes linear time, and each bin is then one slice.
    order = np.argsort(bin_of_row.astype(np.min_scalar_type(bins)), kind="stable")
    ends = np.cumsum(np.bincount(bin_of_row, minlength=bins))
    gaps, noise = [], []
    for rows in np.split(order, ends[:-1]):
        gap = probability[rows] - positive[rows]
        gaps.append(abs(float(gap.sum())))
        noise.append(_noise(gap, probability[rows], codes[rows], len(users)))
    return _without_noise(np.array(gaps), np.array(noise)) / len(positive)


def _noise(gap: Floats, probability: Floats, codes: Ints, users: int) -> float:
    """Standard error of the sum of the gaps (N,) of one bin, with users as independent."""
    rows = np.bincount(codes, minlength=users)
    inside = int(np.count_nonzero(rows))
    if inside < 2:
        # One user has no spread over users; that of its labels is the least that there is.
        return math.sqrt(float(probability @ (1.0 - probability)))
    off = np.bincount(codes, weights=gap, minlength=users) - gap.mean() * rows
    return math.sqrt(float(off @ off) * inside / (inside - 1))


def _without_noise(gaps: Floats, noise: Floats) -> float:
    """Sum of the gaps (K,) times the factor with which normal noise (K,) gives the sum that was measured."""
    measured, low, high = float(gaps.sum()), 0.0, 1.0
    if _mean_absolute(0.0 * gaps, noise) >= measured:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2.0
        if _mean_absolute(middle * gaps, noise) < measured:
            low = middle
        else:
            high = middle
    return high * measured


def _mean_absolute(means: Floats, deviations: Floats) -> float:
    """Sum of E|x| over normal variables (K,)."""
    # Beyond 40 deviations, and without any, the mean of |x| is the mean itself.
    z = np.divide(means, deviations, out=np.full(len(means), 40.0), where=deviations > means / 40.0)
    density = np.exp(-0.5 * z * z) * math.sqrt(2.0 / math.pi)
    return float((deviations * density + means * (1.0 - 2.0 * ndtr(-z))).sum())


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predictions and outcomes in each bin of equal mass, by rising probability.

    `mean_probability` and `mean_label` (K,) in [0, 1], `rows` (K,) number of rows; K <= bins: empty bins are
    left out.
    """

    mean_probability: Floats
    mean_label: Floats
    rows: Ints


def reliability_curve(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = ECE_BINS
) -> ReliabilityCurve:
    """Points of a reliability plot: mean probability against the share of clicks in bins of equal mass."""
    positive, probability = binary_labels(labels), _checked_probabilities(probabilities)
    same_length({"labels": positive, "probabilities": probability})
    bin_of_row = equal_mass_bins(probability, bins)
    rows = np.bincount(bin_of_row, minlength=bins)
    # A bin can be empty where many rows share one probability.
    kept = rows > 0
    predicted = np.bincount(bin_of_row, weights=probability, minlength=bins)
    clicked = np.bincount(bin_of_row, weights=positive, minlength=bins)
    return ReliabilityCurve(predicted[kept] / rows[kept], clicked[kept] / rows[kept], rows[kept])


def equal_mass_bins(probabilities: npt.ArrayLike, bins: int) -> Ints:
    """Bin (N,) of each row, 0 to `bins` - 1, by its rank.

    Rows of equal probability share the bin of their middle rank, so the result does not depend on the order
    of the rows, and a constant prediction fills a single bin.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; give 1 or more.")
    probability = np.asarray(probabilities)
    _, codes, counts = np.unique(probability, return_inverse=True, return_counts=True)
    first_rank = np.cumsum(counts) - counts
    # Twice the middle rank stays an integer: (2 first + count) / 2 of N ranks falls into this bin of `bins`.
    bin_of_rank: Ints = (2 * first_rank + counts) * bins // (2 * max(len(probability), 1))
    return bin_of_rank[codes]


def rectify(probabilities: npt.ArrayLike, keep_rate: float) -> Floats:
    """Undo negative down-sampling: q = p / (p + (1 - p) / w) with w the share of negatives kept, in (0, 1].

    The rectified probability of each row (N,) when training saw every positive and each negative with
    probability w (He et al. 2014, section 6.3). On logits the same is z + ln w. AUC does not change; log-loss
    and calibration on rows that were not down-sampled must use q.
    """
    if not 0.0 < keep_rate <= 1.0:
        raise ConfigError(f"keep_rate is {keep_rate}; the share of negatives kept lies in (0, 1].")
    probability = _checked_probabilities(probabilities)
    # Odds shrink by the share of negatives that were kept.
    return probability / (probability + (1.0 - probability) / keep_rate)


def _checked_probabilities(probabilities: npt.ArrayLike) -> Floats:
    """Probabilities (N,) in float64; `DataError` outside [0, 1] (often logits by mistake)."""
    values = finite_numbers("probabilities", probabilities).astype(np.float64)
    wrong = (values < 0.0) | (values > 1.0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"probabilities[{row}] is {values[row]}; give values in [0, 1]: apply the sigmoid to logits."
        )
    return values
