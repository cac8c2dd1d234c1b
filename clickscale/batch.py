"""The tensors that models see: shapes, units and meaning of every one, stated here once.

Shape letters of the whole project: B users (rows), C candidates per row, L behaviors, F fields, D width,
H heads, K kept behaviors, N tokens, T labels (tasks).

A row is one user at one moment (groupings ``impression`` and ``request``) or one window of a user's timeline
(grouping ``timeline``). Behaviors stand oldest first and are padded on the left, so the newest is at column
L - 1. A candidate sees the behaviors of the columns ``oldest <= column < visible`` that are not padding.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class UserSide:
    """Everything known of the user, and nothing of any candidate.

    Attributes:
        profile: (B, columns of the profile) int64, categorical indices; column 0 is the user id.
        profile_numbers: (B, F) float32, standardized, NaN where missing.
        items: (B, L) int64, rows of the item table; 0 is padding.
        actions: (B, L, columns of the behavior fields) int64, categorical event attributes.
        action_numbers: (B, L, F) float32, numeric event attributes, NaN where missing.
        times: (B, L) int64, seconds since 1970 UTC; padding repeats an arbitrary value.
    """

    profile: Tensor
    profile_numbers: Tensor
    items: Tensor
    actions: Tensor
    action_numbers: Tensor
    times: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: True where there is a behavior."""
        return self.items > 0


@dataclass(frozen=True)
class CandidateSide:
    """The items to score for each row, each at its own time.

    Attributes:
        items: (B, C) int64, rows of the item table; 0 is padding.
        context: (B, C, columns of the context fields) int64.
        context_numbers: (B, C, F) float32, NaN where missing; statistics included.
        times: (B, C) int64, seconds since 1970 UTC.
        oldest: (B, C) int64, the first column of the row's behaviors that the candidate may see.
        visible: (B, C) int64, one past the last such column; L for every candidate outside ``timeline``.
    """

    items: Tensor
    context: Tensor
    context_numbers: Tensor
    times: Tensor
    oldest: Tensor
    visible: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, C) bool: True where there is a candidate."""
        return self.items > 0


@dataclass(frozen=True)
class Batch:
    """Users, candidates and what happened.

    Attributes:
        labels: (B, C, T) float32 in {0, 1}; 0 where unknown.
        label_mask: (B, C, T) bool, True where the label is known and the candidate is not padding.
        rows: (B, C) int64, row of the impression in the prepared data set, -1 for padding.
    """

    user: UserSide
    candidates: CandidateSide
    labels: Tensor
    label_mask: Tensor
    rows: Tensor

    @property
    def samples(self) -> int:
        """Number of impressions in the batch, padding not counted."""
        return int((self.rows >= 0).sum())

    def shortened(self, length: int) -> "Batch":
        """The same impressions when a candidate sees its last ``length`` behaviors at most.

        Behaviors that no candidate of their row sees any more become padding, and columns that hold only
        padding are dropped. The result equals what a loader with this ``length`` and the same windows
        gathers, except for the values of padding.
        """
        user, candidates = self.user, self.candidates
        oldest = torch.maximum(candidates.oldest, candidates.visible - length)  # (B, C)
        width = user.items.shape[1]
        first = torch.where(candidates.mask, oldest, width).amin(1, keepdim=True)  # (B, 1)
        kept = user.mask & (torch.arange(width, device=oldest.device) >= first)  # (B, L)
        columns = kept.any(0).nonzero()
        cut = int(columns[0]) if len(columns) else width - 1  # one column always stays
        kept = kept[:, cut:]
        shorter = replace(
            user,
            items=user.items[:, cut:] * kept,
            actions=user.actions[:, cut:] * kept[..., None],
            action_numbers=user.action_numbers[:, cut:],
            times=user.times[:, cut:],
        )
        moved = replace(
            candidates,
            oldest=(oldest - cut).clamp(min=0),
            visible=(candidates.visible - cut).clamp(min=0),  # that of padding is 0 already
        )
        return replace(self, user=shorter, candidates=moved)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""

        def moved(side: object) -> dict[str, Tensor]:
            names = [field.name for field in fields(side) if field.name not in ("user", "candidates")]  # type: ignore[arg-type]
            return {name: getattr(side, name).to(device, non_blocking=True) for name in names}

        return Batch(UserSide(**moved(self.user)), CandidateSide(**moved(self.candidates)), **moved(self))


def sees_columns(oldest: Tensor, visible: Tensor, mask: Tensor) -> Tensor:
    """Mark the behaviors that candidates may see: from their oldest to their visible column, no padding.

    Every model and every check takes its mask from here.

    Args:
        oldest, visible: (B, C) int64, as in `CandidateSide`.
        mask: (B, L) bool, True where there is a behavior.

    Returns:
        (B, C, L) bool.
    """
    column = torch.arange(mask.shape[1], device=mask.device)  # (L,)
    inside = (column >= oldest[..., None]) & (column < visible[..., None])  # (B, C, L)
    return inside & mask[:, None, :]
