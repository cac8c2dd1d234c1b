"""Weights of behaviors by a small network that sees each of them beside the candidate (Zhou et al. 2018).

``a_j = MLP([q, k_j, q - k_j, q * k_j])``, no softmax, so that the strength of an interest survives.

The first layer is linear in its input, so it is split exactly into ``(Wp q + Wk - Wd) k + (Wq + Wd) q``: one
matrix per candidate meets all behaviors in one product, and no tensor of width 4D per pair exists.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from clickscale.layers.kernels.pair_attention import EPS, Layers, TrainedAttention

PairDice = Literal["learned", "batch"]
_PIECE = 1 << 17  # units of a piece of candidates; some four tensors of it share the cache of one core


class _LearnedDice(nn.Module):
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


class _BatchDice(nn.Module):
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


class LocalActivation(nn.Module):
    """The attention network of DIN, see the module docstring.

    Args:
        width: D of a behavior and of a candidate.
        hidden: units of the network (36 in the paper).
        dice: the gate of its Dice is ``learned``, or follows the statistics of the ``batch`` as in the paper,
            over real pairs only.
    """

    def __init__(self, width: int, hidden: int = 36, dice: PairDice = "learned") -> None:
        super().__init__()
        first = nn.Linear(4 * width, hidden)
        self.query_weight, self.key_weight, self.gap_weight, self.product_weight = (
            nn.Parameter(part.clone()) for part in first.weight.detach().chunk(4, dim=1)
        )
        self.first_bias = nn.Parameter(first.bias.detach().clone())
        self.dice = (_LearnedDice if dice == "learned" else _BatchDice)(hidden)
        self.second = nn.Linear(hidden, 1)

    def forward(self, query: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """Weight of each behavior for each candidate, 0 where it is not seen.

        Args:
            query: (B, C, D) candidates.
            tokens: (B, L, D) behaviors.
            seen: (B, C, L) bool.

        Returns:
            (B, C, L).
        """
        own = query @ (self.query_weight + self.gap_weight).T + self.first_bias  # (B, C, hidden)
        sums = self._train_sums if self.training else self._running_sums
        return (sums(query, own, tokens.to(query.dtype), seen) + self.second.bias) * seen

    def _running_sums(self, query: Tensor, own: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """(B, C, L) without bias, by running statistics."""
        # The units of some candidates at a time take all their passes while they are in the cache.
        of_candidate = len(own) * own.shape[2] * tokens.shape[1]
        some = max(_PIECE // max(of_candidate, 1), 1)
        pieces = zip(torch.split(query, some, 1), torch.split(own, some, 1), strict=True)
        return torch.cat([self._sums_of_some(*piece, tokens) for piece in pieces], dim=1)  # (B, C, L)

    def _sums_of_some(self, query: Tensor, own: Tensor, tokens: Tensor) -> Tensor:
        """(B, c, L) of c candidates."""
        # One matrix per candidate: all terms of the first layer that read the behavior.
        of_key = self.key_weight - self.gap_weight  # (hidden, D)
        maps = torch.addcmul(of_key, query[:, :, None], self.product_weight)  # (B, c, hidden, D)
        products = maps.flatten(1, 2) @ tokens.transpose(1, 2)  # (B, c * hidden, L)
        units = products.view(*own.shape, -1).add_(own[..., None])  # (B, c, hidden, L)
        alpha, center, rate = (weights[:, None] for weights in self.dice.layers())  # (hidden, 1) each
        gate = (units * rate).sub_(center * rate).sigmoid_()
        return self.second.weight[0] @ (units * torch.addcmul(alpha, gate, 1 - alpha))

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
