"""SimTier (Sheng et al. 2024): histograms of the cosines between a candidate and behaviors."""

import torch
from torch import Tensor

from clickscale.layers.retrieval import GRID

# (cosine + 1) * tiers, in units of 1 / GRID**2, must stay below 2**31.
MOST_TIERS = 64


def similarity_tiers(dots: Tensor, counted: Tensor, tiers: int) -> Tensor:
    """Histograms of similarities over ``tiers`` equal parts of [-1, 1], as log(1 + count).

    ``counted`` leaves out padding and items without content: their cosine of 0 would pile up in one tier.

    Args:
        dots: (..., L) products of grid vectors, cosines in units of 1 / GRID**2.
        counted: (..., L) bool.
        tiers: at most `MOST_TIERS`; tier t holds the cosines from 2 t / tiers - 1 up to the next tier.

    Returns:
        (..., tiers) float32.
    """
    whole = dots.to(torch.int32)  # exact, so that a cosine on a border has one tier everywhere
    tier = torch.div((whole + GRID**2) * tiers, 2 * GRID**2, rounding_mode="floor").clamp(0, tiers - 1)
    counts = torch.zeros((*dots.shape[:-1], tiers), device=dots.device)
    counts.scatter_add_(-1, tier.long(), counted.expand(dots.shape).float())  # (..., tiers)
    return counts.log1p()
