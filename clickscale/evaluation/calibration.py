"""Calibration: whether the predicted click probabilities add up to the clicks.

`labels` (N,) in {0, 1}; `probabilities` (N,) in [0, 1], already rectified if training dropped negatives. What
is not defined on the given rows is nan; impossible values raise `DataError`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Floats, Ints
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.metrics import binary_labels, finite_numbers, same_length

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
    of equal width would be one bin). See `equal_mass_bins` for ties.
    """
    curve = reliability_curve(labels, probabilities, bins)
    gaps = np.abs(curve.mean_probability - curve.mean_label)
    return float(curve.rows @ gaps) / float(curve.rows.sum()) if curve.rows.size else math.nan


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
