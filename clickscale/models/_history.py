"""State and user side of models whose candidates meet the embedded behaviors themselves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.batch import UserSide
from clickscale.layers.inputs import Inputs
from clickscale.models._base import CTRModel, State


@dataclass(frozen=True)
class HistoryState(State):
    """Items and times (B, L), behavior tokens (B, L, D) and the profile (B, n2, d) of each user."""

    GROWS = {"items": 1, "times": 1, "tokens": 1}
    items: Tensor
    times: Tensor
    tokens: Tensor
    profile: Tensor


class HistoryModel(CTRModel[HistoryState]):
    """A model whose user side is look-ups; a subclass adds what candidates do with them, in `score`."""

    shares = False

    def __init__(self, inputs: Inputs, length: int) -> None:
        super().__init__()
        self.inputs, self.length = inputs, length

    def encode_user(self, user: UserSide) -> HistoryState:
        """Look-ups only: user and candidate meet in the first layer."""
        return HistoryState(user.items, user.times, self.inputs.behaviors(user), self.inputs.profile(user))

    def extend_user(self, state: HistoryState, user: UserSide) -> HistoryState:
        """State of the longer history; every row gains the behaviors of ``user``."""
        return HistoryState(
            torch.cat([state.items, user.items], dim=1),
            torch.cat([state.times, user.times], dim=1),
            torch.cat([state.tokens, self.inputs.behaviors(user)], dim=1),
            state.profile,
        )
