"""Deep Interest Network (Zhou et al., KDD 2018).

A small network weighs every behavior by the candidate: ``a_j = MLP([q, k_j, q - k_j, q * k_j])``, no softmax,
so that the strength of an interest survives; the weighted sum of behaviors enters the tower.

The first layer is linear in its input, so it is split exactly into ``(Wp q + Wk - Wd) k + (Wq + Wd) q``: one
matrix per candidate meets all behaviors in one product, and no tensor of width 4D per pair exists.

Deviations: the gate of Dice inside the attention is learned (``dice=batch``: it follows the batch as in the
paper, over real pairs only), and the tower normalizes by candidate, not by batch (`clickscale.layers.head`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide, sees_columns
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.models._base import CTRModel, State
from clickscale.models._din import EPS, Layers, TrainedAttention


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
    """

    d: int = 8
    hidden: int = 36
    dice: Literal["learned", "batch"] = "learned"
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "hidden")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))}


@dataclass(frozen=True)
class _DINState(State):
    """Behavior tokens (B, L, D), mask (B, L), profile (B, n2 * d)."""

    GROWS = {"tokens": 1, "mask": 1}
    tokens: Tensor
    mask: Tensor
    profile: Tensor


class _PairDice(nn.Module):
    """Dice over pairs, with a gate ``sigmoid(rate * (x - center))`` that is learned.

    Attributes:
        alpha, center, rate: (hidden,): slope of a shut gate, where it is half open, and how steep it is.
    """

    measured = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.center, self.rate = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.ones(width))

    def layers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slope, center and rate."""
        return self.alpha, self.center, self.rate

    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Do nothing: a learned gate does not follow the batch."""


class _BatchPairDice(nn.Module):
    """Dice over pairs as in the paper: its gate follows the mean and deviation of the pairs of a batch.

    Running statistics are plain averages over the first batches, and move by ``momentum`` from then on.

    Attributes:
        alpha, center, variance: (hidden,).
        batches: how many were followed, as a floating number, so that a refused step takes it back.
    """

    measured = True
    center: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, width: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))

    def layers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slope, and center and rate by running statistics."""
        return self.alpha, self.center, (self.variance + EPS).rsqrt()

    def follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        self.batches += 1
        share = torch.clamp(1 / self.batches, min=self.momentum)
        self.center.lerp_(mean, share)
        self.variance.lerp_(variance, share)


class DIN(CTRModel[_DINState]):
    """See the module docstring."""

    shares = False

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = Inputs(features, items, config.d, config.numbers)
        width = self.inputs.width
        first = nn.Linear(4 * width, config.hidden)
        self.query_weight, self.key_weight, self.gap_weight, self.product_weight = (
            nn.Parameter(part.clone()) for part in first.weight.detach().chunk(4, dim=1)
        )
        self.first_bias = nn.Parameter(first.bias.detach().clone())
        self.dice = (_PairDice if config.dice == "learned" else _BatchPairDice)(config.hidden)
        self.second = nn.Linear(config.hidden, 1)
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
        interest = self._weights(state, candidates) @ tokens  # (B, C, D)
        read = torch.cat([interest, items], dim=-1)  # (B, C, D + item width)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)

    def _weights(self, state: _DINState, candidates: CandidateSide) -> Tensor:
        """(B, C, L): weight of each behavior for each candidate, 0 where it is not seen."""
        query = self.inputs.candidates(candidates)  # (B, C, D)
        seen = sees_columns(candidates.oldest, candidates.visible, state.mask)  # (B, C, L)
        own = query @ (self.query_weight + self.gap_weight).T + self.first_bias  # (B, C, hidden)
        sums = self._train_sums if self.training else self._running_sums
        return (sums(query, own, state.tokens.to(query.dtype), seen) + self.second.bias) * seen

    def _running_sums(self, query: Tensor, own: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """(B, C, L) without bias, by running statistics."""
        # One matrix per candidate: all terms of the first layer that read the behavior.
        of_key = self.key_weight - self.gap_weight  # (hidden, D)
        maps = query[:, :, None] * self.product_weight + of_key  # (B, C, hidden, D)
        products = maps.flatten(1, 2) @ tokens.transpose(1, 2)  # (B, C * hidden, L)
        units = products.view(*own.shape, -1) + own[..., None]  # (B, C, hidden, L)
        alpha, center, rate = (weights[:, None] for weights in self.dice.layers())  # (hidden, 1) each
        gate = (rate * (units - center)).sigmoid()
        return self.second.weight[0] @ (units * (alpha + (1 - alpha) * gate))

    def _train_sums(self, query: Tensor, own: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """(B, C, L) without bias, measured Dice by batch statistics, in float32 also under autocast."""
        alpha, center, rate = self.dice.layers()
        key, out = self.key_weight - self.gap_weight, self.second.weight[0]
        layers = Layers(self.product_weight, key, alpha, out, center, rate)
        with torch.autocast(query.device.type, enabled=False):
            inputs = query.float(), own.float(), tokens.float(), seen.flatten(1).float()
            apply = TrainedAttention.apply
            sums, mean, variance = apply(self.dice.measured, *inputs, *layers)  # type: ignore[no-untyped-call]
        self.dice.follow(mean, variance)
        return sums.view(seen.shape)  # (B, C, L)
