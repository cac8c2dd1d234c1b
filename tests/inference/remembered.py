"""A model whose state is the very history it was computed from, so that a wrong state is seen exactly."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.models import CTRModel
from clickscale.state import State


@dataclass(frozen=True)
class Remembered(State):
    """The bytes of every behavior (B, L, W), the profile (B, P) and which model it was (B, 1)."""

    GROWS = {"rows": 1}

    rows: Tensor
    profile: Tensor
    model: Tensor


class Memory(CTRModel):
    """Remembers; a score is the number of behaviors, then each label's share of the model's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.encoded = number, 0

    def encode_user(self, user: UserSide) -> Remembered:
        self.encoded += len(user.items)
        parts = (
            user.items[..., None],
            user.actions,
            user.action_numbers.view(torch.int32),
            user.times[..., None],
        )
        rows = torch.cat([part.long() for part in parts], dim=-1)
        profile = torch.cat([user.profile, user.profile_numbers.view(torch.int32).long()], dim=1)
        return Remembered(rows, profile, torch.full((len(rows), 1), self.number))

    def extend_user(self, state: Remembered, user: UserSide) -> Remembered:
        new = self.encode_user(user)
        self.encoded -= len(user.items)
        return Remembered(torch.cat([state.rows, new.rows], dim=1), state.profile, state.model)

    def score(self, state: Remembered, candidates: CandidateSide) -> Tensor:  # type: ignore[override]
        count = torch.tensor(float(state.rows.shape[1]))
        return count.expand(*candidates.items.shape, 1)


def user_side(profiles: np.ndarray, histories: list[np.ndarray], columns: int) -> UserSide:
    """Users from integers: profiles (B, 2) as index and number; histories (n, 4): item, action, number, time.

    A number of -1 is a missing one.
    """
    grid = np.zeros((len(histories), columns, 4), np.int64)
    for row, history in enumerate(histories):
        if len(history):
            grid[row, columns - len(history) :] = history
    numbers = grid[..., 2:3].astype(np.float32)
    numbers[numbers < 0] = np.nan
    return UserSide(
        profile=torch.from_numpy(profiles[:, :1].copy()),
        profile_numbers=torch.from_numpy(profiles[:, 1:].astype(np.float32)),
        items=torch.from_numpy(grid[..., 0].copy()),
        actions=torch.from_numpy(grid[..., 1:2].copy()),
        action_numbers=torch.from_numpy(numbers),
        times=torch.from_numpy(grid[..., 3].copy()),
    )
