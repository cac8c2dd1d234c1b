"""WuKong (Zhang et al., ICML 2024): stacked factorization machines that obey a scaling law.

Each layer turns n tokens into n_F tokens made of their pair products and n_L linear combinations of them::

    FMB(X) = MLP(LN(X X^T Y))          # X (n, d), Y (n, k): the products are compressed, never n x n wide
    LCB(X) = W_L X
    X'     = LN([FMB(X), LCB(X)] + X)  # a linear map of X's tokens instead of X where n_F + n_L is not n

so layer l reaches combinations of degree 2^l.

Deviations: the history enters as pooled fields; the compressing Y is learned and does not read the input, as
in the public implementations; the tower is the head of all models here.
"""

from itertools import pairwise

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
from clickscale.models._papers import EST_TOWER
from clickscale.models._sizes import DEBUG_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        layers: of the stack.
        compressed: k, the columns to which pair products are compressed.
        machine_tokens, linear_tokens: n_F and n_L, tokens that a layer makes of products and of sums.
        hidden: widths of the MLP of the products.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    layers: int = 2
    compressed: int = 16
    machine_tokens: int = 8
    linear_tokens: int = 8
    hidden: tuple[int, ...] = (256,)
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "layers", "compressed", "machine_tokens", "linear_tokens")


PRESETS = {
    f"size-{i + 1}": ModelConfig(
        d=d,
        layers=layers,
        compressed=tokens,
        machine_tokens=tokens // 2,
        linear_tokens=tokens // 2,
        hidden=(16 * tokens,),
    )
    for i, (d, layers, tokens) in enumerate(((8, 1, 16), (8, 2, 16), (16, 3, 24), (32, 4, 32), (144, 8, 64)))
} | {
    "paper": ModelConfig(
        d=16, layers=6, machine_tokens=26, linear_tokens=26, inputs=FieldConfig(simtier=True), head=EST_TOWER
    ),
    "debug": ModelConfig(d=4, layers=1, machine_tokens=2, linear_tokens=2, head=DEBUG_TOWER),
}


class _Layer(nn.Module):
    """One layer: tokens (..., n, d) -> (..., n_F + n_L, d)."""

    def __init__(self, tokens: int, config: ModelConfig) -> None:
        super().__init__()
        made, widths = config.machine_tokens, [tokens * config.compressed, *config.hidden]
        self.compress = nn.Parameter(torch.randn(tokens, config.compressed) * tokens**-0.5)
        self.products = nn.LayerNorm(widths[0])
        parts: list[nn.Module] = []
        for width, hidden in pairwise(widths):
            parts += [nn.Linear(width, hidden), nn.ReLU()]
        self.mlp = nn.Sequential(*parts, nn.Linear(widths[-1], made * config.d))
        self.linear = nn.Linear(tokens, config.linear_tokens, bias=False)
        out = made + config.linear_tokens
        self.residual = nn.Identity() if out == tokens else nn.Linear(tokens, out, bias=False)
        self.norm = nn.LayerNorm(config.d)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.transpose(-1, -2)  # (..., d, n)
        products = x @ (columns @ self.compress)  # (..., n, k)
        made = self.mlp(self.products(products.flatten(-2)))  # (..., n_F * d)
        made = made.view(*x.shape[:-2], -1, x.shape[-1])  # (..., n_F, d)
        combined = self.linear(columns).transpose(-1, -2)  # (..., n_L, d)
        kept = self.residual(columns).transpose(-1, -2)  # (..., n_F + n_L, d)
        normalized: Tensor = self.norm(torch.cat([made, combined], dim=-2) + kept)
        return normalized


class WuKong(HistoryModel):
    """See the module docstring."""

    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        out = config.machine_tokens + config.linear_tokens
        counts = [inputs.count] + [out] * (config.layers - 1)
        self.layers = nn.ModuleList(_Layer(count, config) for count in counts)
        self.head = Head(out * config.d, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        x = self.inputs.tokens(state, candidates)  # (B, C, n, d)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.flatten(2), candidates.mask)
