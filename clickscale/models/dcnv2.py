"""DCN-V2: Deep and Cross Network (Wang et al., WWW 2021).

Cross layers multiply all fields with combinations of themselves; layer l adds the degree l + 1::

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l                                                     # cross=full
    x_{l+1} = x_0 * sum_e g_e(x_l) (U_e tanh(C_e tanh(V_e^T x_l)) + b_e) + x_l                # cross=mixture

where the gates g of a mixture are a softmax, with weights of their own in every layer. The tower reads the
crossed fields (``stacked``), or stands beside them and the logits add up (``parallel``).

Deviations: the tower is the head of all models here; the history enters as pooled fields.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.models._fields import FieldConfig, FieldInputs
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._papers import SMALL_TOWER
from clickscale.models._sizes import DEBUG_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        layers: of crosses.
        cross: a ``full`` matrix per layer, or a ``mixture`` of low-rank ones.
        rank: of each matrix of a mixture. experts: matrices of a mixture.
        structure: the tower reads the crossed fields (``stacked``) or stands beside them (``parallel``).
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    layers: int = 3
    cross: Literal["full", "mixture"] = "full"
    rank: int = 32
    experts: int = 4
    structure: Literal["stacked", "parallel"] = "parallel"
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "layers", "rank", "experts")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, layers=layers)
    for i, (d, layers) in enumerate(((8, 2), (8, 3), (16, 3), (32, 4), (144, 6)))
} | {
    "paper": ModelConfig(
        d=16, layers=6, structure="stacked", inputs=FieldConfig(simtier=True), head=SMALL_TOWER
    ),
    "debug": ModelConfig(d=4, layers=1, head=DEBUG_TOWER),
}


class _FullCross(nn.Module):
    """``x_0 * (W x + b) + x``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """x_0 and x_l (..., width) -> x_{l+1} (..., width)."""
        return torch.addcmul(x, first, self.map(x).to(x.dtype))


class _MixtureCross(nn.Module):
    """A cross by low-rank matrices, weighed by gates that read the layer's input."""

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.experts = experts
        self.gate = nn.Linear(width, experts, bias=False)
        self.enter = nn.Linear(width, experts * rank, bias=False)  # V of all experts in one product
        self.inner = nn.Parameter(torch.empty(experts, rank, rank).uniform_(-(rank**-0.5), rank**-0.5))
        self.leave = nn.Parameter(torch.empty(experts, rank, width).uniform_(-(rank**-0.5), rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(experts, width))

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """x_0 and x_l (..., width) -> x_{l+1} (..., width)."""
        gates = self.gate(x).softmax(dim=-1)  # (..., E)
        low = self.enter(x).tanh().view(*x.shape[:-1], self.experts, -1)  # (..., E, rank)
        low = torch.einsum("...er,ers->...es", low, self.inner).tanh() * gates[..., None]
        # The gates weigh the low-rank side, so that the sum over experts is one product.
        mixed = low.flatten(-2) @ self.leave.flatten(0, 1) + gates @ self.bias  # (..., width)
        return torch.addcmul(x, first, mixed.to(x.dtype))


class DCNv2(HistoryModel):
    """See the module docstring."""

    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        width = inputs.count * config.d
        self.layers = nn.ModuleList(
            _FullCross(width) if config.cross == "full" else _MixtureCross(width, config.rank, config.experts)
            for _ in range(config.layers)
        )
        self.beside = nn.Linear(width, labels, bias=False) if config.structure == "parallel" else None
        self.head = Head(width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        first = self.inputs.tokens(state, candidates).flatten(2)  # (B, C, width)
        crossed = first
        for layer in self.layers:
            crossed = layer(first, crossed)
        if self.beside is None:
            return self.head(crossed, candidates.mask)
        beside = self.beside(crossed).float() * candidates.mask[..., None]  # (B, C, T)
        return self.head(first, candidates.mask) + beside
