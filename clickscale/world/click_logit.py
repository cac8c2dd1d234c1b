"""Parts of the click logit that depend on earlier behaviors, each a formula of their times and items.

The simulation applies them to running sums, and `clickscale.world.window_oracle` to the behaviors themselves.
"""

import numpy as np

from clickscale.arrays import Array, Floats32

NEVER = -1e12  # seconds; the last purchase in a category in which there was none


def need(age: Array, period: Array) -> Floats32:
    """How due a recurring need is, from 0 to 1: it rises around nine tenths of the period.

    Args:
        age: days since the last purchase in the category; far above any period if there was none, which
            gives 0: a need that never showed is none.
    """
    share = age / period
    rising = 1.0 / (1.0 + np.exp(np.clip((0.85 - share) / 0.05, -60, 60)))
    found: Floats32 = np.where(share < 1e3, rising, 0.0).astype(np.float32)
    return found


def complement(age: Array, delay: Array) -> Floats32:
    """Wish for a category after a purchase in its partner, from 0 to 1; greatest after ``delay`` days."""
    share = np.minimum(age / delay, 60.0)
    wish: Floats32 = (share * np.exp(1.0 - share)).astype(np.float32)
    return wish


def satiation(count: Array) -> Floats32:
    """Weariness after so many behaviors in the category; recent ones count most."""
    weary: Floats32 = np.log1p(count).astype(np.float32)
    return weary


def decayed_mean(total: Array, count: Array) -> Floats32:
    """Mean of factors, (n, D) sums over (n,) decayed counts, drawn to zero where there is little."""
    mean: Floats32 = (total / (1.0 + count[:, None])).astype(np.float32)
    return mean


def probability(logit: Array) -> Floats32:
    """Click probability."""
    found: Floats32 = (1.0 / (1.0 + np.exp(-logit))).astype(np.float32)
    return found
