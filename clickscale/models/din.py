"""Deep Interest Network (Zhou et al., KDD 2018).

A small network weighs every behavior by the candidate (`clickscale.layers.local_activation`), without a
softmax, so that the strength of an interest survives; the weighted sum of behaviors enters the tower.

Deviations: the gate of Dice inside the attention is learned (``dice=batch``: it follows the batch as in the
paper, over real pairs only), and the tower normalizes by candidate, not by batch (`clickscale.layers.head`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide, sees_columns
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.local_activation import LocalActivation, PairDice
from clickscale.models._base import CTRModel, State
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER
from clickscale.models._week_inputs import WeekInputs


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        hidden: units of the attention network (36 in the paper).
        dice: the gate of Dice inside the attention is ``learned``, or follows the statistics of the ``batch``
            as in the paper.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
        time_of_week: add the hour and weekday of a candidate to its context; where users come back, the
            recipe turns it on.
    """

    d: int = 8
    hidden: int = 36
    dice: PairDice = "learned"
    numbers: Numbers = "piecewise"
    time_of_week: bool = False
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "hidden")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))}
PRESETS |= {"paper": ModelConfig(head=SUAN_TOWER), "debug": ModelConfig(d=4, hidden=8, head=DEBUG_TOWER)}


@dataclass(frozen=True)
class _DINState(State):
    """Behavior tokens (B, L, D), mask (B, L), profile (B, n2 * d)."""

    GROWS = {"tokens": 1, "mask": 1}
    tokens: Tensor
    mask: Tensor
    profile: Tensor


class DIN(CTRModel[_DINState]):
    """See the module docstring."""

    shares = False

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = WeekInputs(features, items, config.d, config.numbers, config.time_of_week)
        width = self.inputs.width
        self.activation = LocalActivation(width, config.hidden, config.dice)
        self.head = head_over(self.inputs, width + self.inputs.item_width, labels, config.head)

    def encode_user(self, user: UserSide) -> _DINState:
        """Look-ups only: a behavior's part of the attention is folded into the product with candidates."""
        return _DINState(self.inputs.behaviors(user), user.mask, self.inputs.profile(user).flatten(1))

    def extend_user(self, state: _DINState, user: UserSide) -> _DINState:
        """State of the longer history; every row gains the behaviors of ``user``."""
        tokens = torch.cat([state.tokens, self.inputs.behaviors(user)], dim=1)
        return _DINState(tokens, torch.cat([state.mask, user.mask], dim=1), state.profile)

    def score(self, state: _DINState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        items = self.inputs.candidate_items(candidates)
        tokens = state.tokens.to(items.dtype)
        seen = sees_columns(candidates.oldest, candidates.visible, state.mask)  # (B, C, L)
        interest = self.activation(self.inputs.candidates(candidates), tokens, seen) @ tokens  # (B, C, D)
        read = torch.cat([interest, items], dim=-1)  # (B, C, D + item width)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)
