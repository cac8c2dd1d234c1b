"""Calibration at the end of a run: the last bias follows the label rate of the validation part.

Rates move with time, and the validation part is newer than what was learned from. One number for each label
changes no order of candidates. It is moved only if the two halves of the part, by time, agree on it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clickscale.batch import Batch
from clickscale.data.loader import Loader
from clickscale.layers.head import Head

Floats = npt.NDArray[np.float64]
Scores = Callable[[Batch], Tensor]

_PRIOR = 50.0  # evidence for no shift, as that of 200 impressions of which half are positive
_STEPS = 50  # of Newton's method, which needs a few


def calibrate(
    model: nn.Module, scores: Scores, loaders: Sequence[Loader], device: torch.device
) -> list[float]:
    """Move the last bias of a model that has one head.

    Args:
        scores: gives the logits (B, C, T) of the model for a batch.
        loaders: together they score the validation part.

    Returns:
        The shift of the logit of each label, 0 where none helps; empty for a model of several heads.
    """
    heads = [part for part in model.modules() if isinstance(part, Head)]
    if len(heads) != 1:
        return []
    model.eval()
    logits, labels, known, times = _scored(scores, loaders, device)
    order = np.argsort(times, kind="stable")
    shifts = []
    for label in range(logits.shape[1]):
        rows = order[known[order, label]]
        shifts.append(_helpful_shift(logits[rows, label], labels[rows, label]))
    bias = heads[0].tower[-1].bias
    assert isinstance(bias, nn.Parameter), "the last layer is linear or a norm, and both have a bias"
    with torch.no_grad():
        # A head that also learns from a teacher has logits for that after those of the labels.
        bias[: len(shifts)] += torch.tensor(shifts, dtype=bias.dtype, device=bias.device)
    return shifts


def _scored(
    scores: Scores, loaders: Sequence[Loader], device: torch.device
) -> tuple[Floats, Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Logits, labels and whether they are known, (N, T) each, and times (N,) of all impressions."""
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with torch.inference_mode():
        for loader in loaders:
            for batch in loader.batches():
                there = batch.rows >= 0  # (B, C)
                logits = scores(batch.to(device)).cpu().double()
                times = batch.candidates.times[there]
                parts.append((logits[there], batch.labels[there].double(), batch.label_mask[there], times))
    found, outcomes, masks, moments = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return found, outcomes, masks, moments


def _helpful_shift(logits: Floats, outcome: Floats) -> float:
    """Shift towards the rate of all rows, 0 if that of the first half makes the second one worse."""
    half = len(logits) // 2
    trial = _shift(logits[:half], outcome[:half])
    before, after = (_loss(logits[half:] + move, outcome[half:]) for move in (0.0, trial))
    return _shift(logits, outcome) if after < before else 0.0


def _shift(logits: Floats, outcome: Floats) -> float:
    """Most likely shift given the outcomes and `_PRIOR`, by Newton's method."""
    shift = 0.0
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(logits + shift, -50, 50)))
        slope = (outcome - chance).sum() - _PRIOR * shift
        move = slope / ((chance * (1 - chance)).sum() + _PRIOR)
        shift += float(np.clip(move, -1, 1))
        if abs(move) < 1e-9:
            break
    return shift


def _loss(logits: Floats, outcome: Floats) -> float:
    """Sum of the log-losses."""
    return float((np.logaddexp(0, logits) - outcome * logits).sum())
