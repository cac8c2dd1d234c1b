"""Inputs of models that know the hour and weekday of every token."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.inputs import Inputs, ItemColumns


class TimeOfWeek(nn.Module):
    """Hour of the day and day of the week (UTC) of a moment, as a vector of width D.

    Attributes:
        is_field: it is a field of its own, which learns as embedding rows do. Added to every token of a
            sequence, it learns as a dense weight.
    """

    def __init__(self, dim: int, width: int, *, is_field: bool = False) -> None:
        super().__init__()
        self.is_field = is_field
        self.hour = nn.Parameter(torch.randn(24, dim) * 0.05)
        self.day = nn.Parameter(torch.randn(7, dim) * 0.05)
        self.project = nn.Linear(dim, width, bias=False)

    def forward(self, times: Tensor) -> Tensor:
        """Times (...,) int64 seconds -> (..., D)."""
        hour = (times // 3600 + 4 * 24) % 168  # since Sunday; 1970-01-01 was a Thursday
        return functional.embedding(hour, self.week())  # (..., D)

    def week(self) -> Tensor:
        """(168, D): the hours of a week."""
        return self.project((self.day[:, None] + self.hour).flatten(0, 1))  # (168, D)


class TimedInputs(Inputs):
    """`Inputs` of a model whose behaviors and candidates are one sequence of tokens of width D.

    Args:
        time_of_week: add an embedding of hour and weekday to every token.
        candidate: a candidate's behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes its token.
    """

    def __init__(
        self,
        features: Features,
        items: ItemColumns,
        dim: int,
        numbers: Numbers = "linear",
        *,
        time_of_week: bool = True,
        candidate: Literal["zero_fill", "linear"] = "zero_fill",
    ) -> None:
        super().__init__(features, items, dim, numbers)
        self.week = TimeOfWeek(dim, self.width) if time_of_week else None
        linear = candidate == "linear"
        self.linear = nn.Linear(self.item_width, self.width, bias=False) if linear else None

    def timed_behaviors(self, user: UserSide) -> Tensor:
        """(B, L, D)."""
        return self._timed(self.behaviors(user), user.times)

    def timed_candidates(self, candidates: CandidateSide) -> Tensor:
        """(B, C, D)."""
        if self.linear is None:
            return self._timed(self.candidates(candidates), candidates.times)
        return self._timed(self.linear(self.candidate_items(candidates)), candidates.times)

    def _timed(self, x: Tensor, times: Tensor) -> Tensor:
        return x if self.week is None else x + self.week(times)
