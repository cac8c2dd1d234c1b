"""Deep Interest Network (Zhou et al., KDD 2018).

A small network weighs every behavior by the candidate: ``a_j = MLP([q, k_j, q - k_j, q * k_j])``, no softmax,
so that the strength of an interest survives; the weighted sum of behaviors enters the tower.

The first layer is linear in its input, so it is split exactly: ``(Wq + Wd) q + (Wk - Wd) k + Wp (q * k)``.
The middle part depends on the user alone and is kept in the state; the last is one matrix product of the
behaviors with ``Wp`` scaled by the candidate, and no tensor of width 4D per pair exists. Deviation: batch
statistics of Dice inside the attention are taken over real pairs only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.tokenizer import Inputs, ItemColumns
from clickscale.models._base import CTRModel, State
from clickscale.schema import Features


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        hidden: units of the attention network (36 in the paper).
    """

    d: int = 8
    hidden: int = 36
    head: HeadConfig = HeadConfig()


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))}


@dataclass(frozen=True)
class DINState(State):
    """Behavior tokens (B, L, D), their share of the first attention layer (B, L, hidden), mask, profile."""

    tokens: Tensor
    keys: Tensor
    mask: Tensor
    profile: Tensor


class PairDice(nn.Module):
    """Dice over pairs (B, C, hidden, L), its batch statistics over the real ones."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.momentum = momentum

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Pairs (B, C, hidden, L), seen (B, C, L) -> (B, C, hidden, L)."""
        mean, variance = self._statistics(x, seen) if self.training else (self.mean, self.variance)
        gate = ((x - mean[:, None]) * (variance + 1e-8).rsqrt()[:, None]).sigmoid()
        alpha = self.alpha[:, None]
        return x * (alpha + (1 - alpha) * gate)

    def _statistics(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        weight = seen.to(x.dtype)
        weight = weight / weight.sum().clamp(min=1)
        mean = torch.einsum("bchl,bcl->h", x, weight)
        variance = torch.einsum("bchl,bcl->h", x.square(), weight) - mean.square()
        variance = variance.clamp(min=0)
        with torch.no_grad():
            self.mean.lerp_(mean.float(), self.momentum)
            self.variance.lerp_(variance.float(), self.momentum)
        return mean, variance


class DIN(CTRModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = Inputs(features, items, config.d)
        width = self.inputs.width
        first = nn.Linear(4 * width, config.hidden)
        self.query_weight, self.key_weight, self.gap_weight, self.product_weight = (
            nn.Parameter(part.clone()) for part in first.weight.detach().chunk(4, dim=1)
        )
        self.first_bias = nn.Parameter(first.bias.detach().clone())
        self.dice = PairDice(config.hidden)
        self.second = nn.Linear(config.hidden, 1)
        tokens = self.inputs.profile_tokens + self.inputs.context_tokens
        self.head = Head(width + self.inputs.item_width + tokens * config.d, labels, config.head)

    def encode_user(self, user: UserSide) -> DINState:
        """Look-ups, and the behaviors' share of the first attention layer."""
        tokens = self.inputs.behaviors(user)  # (B, L, D)
        keys = tokens @ (self.key_weight - self.gap_weight).T
        return DINState(tokens, keys, user.mask, self.inputs.profile(user).flatten(1))

    def extend_user(self, state: DINState, user: UserSide) -> DINState:
        """State of the longer history; every row gains the behaviors of ``user``."""
        new = self.encode_user(user)
        tokens = torch.cat([state.tokens, new.tokens], dim=1)
        keys = torch.cat([state.keys, new.keys], dim=1)
        return DINState(tokens, keys, torch.cat([state.mask, new.mask], dim=1), state.profile)

    def score(self, state: DINState, candidates: CandidateSide) -> Tensor:  # type: ignore[override]
        """Logits (B, C, T)."""
        items = self.inputs.candidate_items(candidates)
        tokens = state.tokens.to(items.dtype)
        interest = self._weights(state, candidates) @ tokens  # (B, C, D)
        profile = state.profile.to(items.dtype)[:, None].expand(-1, items.shape[1], -1)
        return self.head(
            torch.cat([interest, items, profile, self.inputs.context(candidates)], dim=-1), candidates.mask
        )

    def _weights(self, state: DINState, candidates: CandidateSide) -> Tensor:
        """(B, C, L): weight of each behavior for each candidate, 0 where it is not seen."""
        query = self.inputs.candidates(candidates)  # (B, C, D)
        batch, count, width = query.shape
        length, hidden = state.keys.shape[1], self.config.hidden
        column = torch.arange(length, device=query.device)
        seen = (column >= candidates.oldest[..., None]) & (column < candidates.visible[..., None])
        seen &= state.mask[:, None]  # (B, C, L)
        scaled = (query[:, :, None] * self.product_weight).view(batch, count * hidden, width)
        product = scaled @ state.tokens.to(query.dtype).transpose(1, 2)  # (B, C * hidden, L)
        own = query @ (self.query_weight + self.gap_weight).T + self.first_bias  # (B, C, hidden)
        keys = state.keys.to(query.dtype).transpose(1, 2)[:, None]  # (B, 1, hidden, L)
        pairs = product.view(batch, count, hidden, length) + own[..., None] + keys
        weights = self.second.weight[0] @ self.dice(pairs, seen) + self.second.bias  # (B, C, L)
        return weights * seen
