"""The plain tower: the mean of the visible behaviors, the candidate, the profile and the context.

Every comparison of the two papers has it as its floor. The history enters only as a mean, so a candidate
cannot choose among behaviors; what a model gains over it is what attention is worth.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.pooling import running_sum, sum_between
from clickscale.models._base import CTRModel, State
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER
from clickscale.models._week_inputs import WeekInputs


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
        time_of_week: add the hour and weekday of a candidate to its context; where users come back, the
            recipe turns it on.
    """

    d: int = 8
    numbers: Numbers = "piecewise"
    time_of_week: bool = False
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))}
PRESETS |= {"paper": ModelConfig(head=SUAN_TOWER), "debug": ModelConfig(d=4, head=DEBUG_TOWER)}


@dataclass(frozen=True)
class _MLPState(State):
    """Running sums of the behavior tokens (B, L + 1, D), their count (B, L + 1, 1), the profile (B, n2 d)."""

    GROWS = {"sums": 1, "counts": 1}
    sums: Tensor
    counts: Tensor
    profile: Tensor


class MLP(CTRModel[_MLPState]):
    """See the module docstring."""

    shares = False

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = WeekInputs(features, items, config.d, config.numbers, config.time_of_week)
        self.head = head_over(self.inputs, self.inputs.width + self.inputs.item_width, labels, config.head)

    def encode_user(self, user: UserSide) -> _MLPState:
        """Running sums of the behaviors; the profile."""
        mask = user.mask[..., None].to(self.inputs.table.weight.dtype)  # (B, L, 1)
        sums = running_sum(self.inputs.behaviors(user) * mask)
        return _MLPState(sums, running_sum(mask), self.inputs.profile(user).flatten(1))  # profile (B, n2 * d)

    def extend_user(self, state: _MLPState, user: UserSide) -> _MLPState:
        """State of the longer history; every row gains the behaviors of ``user``."""
        new = self.encode_user(user)
        sums = torch.cat([state.sums, state.sums[:, -1:] + new.sums[:, 1:]], dim=1)
        counts = torch.cat([state.counts, state.counts[:, -1:] + new.counts[:, 1:]], dim=1)
        return _MLPState(sums, counts, state.profile)

    def score(self, state: _MLPState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        items = self.inputs.candidate_items(candidates)  # (B, C, item width)
        total = sum_between(state.sums.to(items.dtype), candidates.oldest, candidates.visible)
        count = sum_between(state.counts.to(items.dtype), candidates.oldest, candidates.visible)
        read = torch.cat([total / count.clamp(min=1), items], dim=-1)  # (B, C, D + item width)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)
