"""Inputs of models that read no times otherwise: the hour and weekday of a candidate beside its context."""

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.timed_inputs import TimeOfWeek


class WeekInputs(Inputs):
    """`Inputs` with one more context token.

    Args:
        time_of_week: add the token, an embedding of hour and weekday; otherwise nothing is added.
    """

    def __init__(
        self, features: Features, items: ItemColumns, dim: int, numbers: Numbers, time_of_week: bool
    ) -> None:
        super().__init__(features, items, dim, numbers)
        self.week = TimeOfWeek(dim, dim, is_field=True) if time_of_week else None
        self.context_tokens += time_of_week

    def context(self, candidates: CandidateSide) -> Tensor:
        """(B, C, n3 * d), the hour and weekday last."""
        fields = super().context(candidates)
        return fields if self.week is None else torch.cat([fields, self.week(candidates.times)], dim=-1)
