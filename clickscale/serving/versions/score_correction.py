"""Correction of scores that a published artifact carries: negative down-sampling, then calibration.

Both are affine maps of a logit, so they are one: ``slope * (logit + ln keep_rate) + intercept``. The server
applies it once, to the logits of the scorer, and nothing else does: `Scorer`, evaluation and predictions give
what the model says. Ranks within a label do not change.
"""

import math

import numpy as np
import numpy.typing as npt

from clickscale.config import Config
from clickscale.errors import ConfigError

_LEAST = 100  # impressions of each outcome to fit two numbers


class Calibrator(Config, frozen=True):
    """A line through logits, as in Platt scaling."""

    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and 0 < self.slope < 100):
            raise ConfigError(
                f"A calibrator with slope {self.slope} and intercept {self.intercept} would change ranks or"
                " is not finite."
            )


class Correction(Config, frozen=True):
    """What is done to the logits of a model before they are probabilities.

    Attributes:
        keep_rate: share of the negatives that training saw.
        calibrators: by label; the others keep their logits.
    """

    keep_rate: float = 1.0
    calibrators: dict[str, Calibrator] = {}

    def __post_init__(self) -> None:
        if not 0 < self.keep_rate <= 1:
            raise ConfigError(f"keep_rate is {self.keep_rate}; the share of negatives kept lies in (0, 1].")

    def probabilities(
        self, labels: tuple[str, ...], logits: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """(C, T) probabilities of logits (C, T)."""
        lines = [self.calibrators.get(label, _SAME) for label in labels]
        slope = np.array([line.slope for line in lines])
        intercept = np.array([line.intercept for line in lines])
        shifted = slope * (logits.astype(np.float64) + math.log(self.keep_rate)) + intercept
        with np.errstate(over="ignore"):  # a logit of -800 gives a probability of 0
            return 1 / (1 + np.exp(-shifted))


_SAME = Calibrator()


def fit_calibrator(
    logits: npt.NDArray[np.floating], outcomes: npt.NDArray[np.floating], keep_rate: float
) -> Calibrator:
    """The line of largest likelihood for logits (N,) and outcomes (N,) that were not down-sampled.

    Raises:
        ConfigError: there are too few of one outcome.
    """
    from scipy.optimize import minimize  # here, so that servers start without it

    positives = int(outcomes.sum())
    if min(positives, len(outcomes) - positives) < _LEAST:
        raise ConfigError(
            f"A calibrator needs {_LEAST} impressions of each outcome, and there are {positives} clicks among"
            f" {len(outcomes)}; leave --calibrate out, or use a larger part."
        )
    given = logits.astype(np.float64) + math.log(keep_rate)

    def loss(line: npt.NDArray[np.float64]) -> float:
        z = line[0] * given + line[1]
        return float(np.mean(np.logaddexp(0, z) - outcomes * z))

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(1e-3, 50), (-50, 50)])
    return Calibrator(slope=float(found.x[0]), intercept=float(found.x[1]))
