"""HiFormer (Gui et al., 2023): attention between fields, with projections of their own for every field.

``projection=field`` is the paper's heterogeneous attention: token i has its own Q_i, K_i, V_i and O_i, so
that every pair of fields has a matrix of its own::

    a_ij = softmax_j (e_i Q_i) . (e_j K_j) / sqrt(width of a head)
    x_i  = LN(concat over heads of sum_j a_ij (e_j V_j) O_i + e_i)
    x_i' = LN(gelu(x_i A_i) B_i + x_i)

``projection=composite`` makes all queries, keys and values by one low-rank map of all tokens, as the paper's
Hiformer: a token then attends to combinations of fields. A learned task token stands behind the fields; the
last layer computes nothing else, and the tower reads it. ``pool=fields`` reads all fields instead, as in the
comparison of Liu et al. (2026).

Deviations: one task token serves all labels; the history enters as pooled fields; the tower is the head of
all models here.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.per_token import PerTokenLinear
from clickscale.models._fields import FieldConfig, FieldInputs
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._papers import EST_TOWER
from clickscale.models._sizes import DEBUG_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a token, divided among the heads.
        layers: of attention. heads: of each.
        expansion: hidden width of the feed-forward networks in units of D.
        projection: queries, keys and values come from each ``field`` or from the ``composite`` of all.
        rank: of the composite maps.
        pool: the tower reads the ``task`` token, or the ``fields``.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    width: int = 32
    layers: int = 1
    heads: int = 2
    expansion: int = 4
    projection: Literal["field", "composite"] = "field"
    rank: int = 64
    pool: Literal["task", "fields"] = "task"
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "layers", "heads", "expansion", "rank")
        if self.width % self.heads:
            raise ConfigError(f"width is {self.width}, which heads={self.heads} does not divide.")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, width=width, layers=layers, heads=heads)
    for i, (d, width, layers, heads) in enumerate(
        ((8, 16, 1, 1), (8, 32, 1, 2), (16, 64, 2, 4), (32, 128, 4, 4), (144, 256, 6, 8))
    )
} | {
    "paper": ModelConfig(
        d=16,
        width=128,
        layers=6,
        heads=4,
        expansion=1,
        pool="fields",
        inputs=FieldConfig(simtier=True),
        head=EST_TOWER,
    ),
    "debug": ModelConfig(d=4, width=8, heads=1, expansion=1, head=DEBUG_TOWER),
}


class _Composite(nn.Module):
    """A low-rank map of all tokens together: (N, R, D) -> (N, R, D)."""

    def __init__(self, tokens: int, width: int, rank: int) -> None:
        super().__init__()
        self.enter = nn.Linear(tokens * width, rank, bias=False)
        self.leave = nn.Linear(rank, tokens * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.transpose(0, 1).flatten(1)  # (R, N D)
        return self.leave(self.enter(flat)).view(x.shape[1], len(x), -1).transpose(0, 1)  # (N, R, D)


class _Layer(nn.Module):
    """Attention and feed-forward over tokens in token-major layout: (N, R, D) -> (n, R, D).

    Args:
        only_last: compute only the last token.
    """

    def __init__(self, tokens: int, config: ModelConfig, *, only_last: bool) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        out = 1 if only_last else tokens
        self.first = tokens - out  # index of the first token that is computed
        self.composite = config.projection == "composite"

        def projection(count: int) -> nn.Module:
            if self.composite:  # all tokens enter, so all come out
                return _Composite(tokens, width, config.rank)
            return PerTokenLinear(count, width, width)

        self.query, self.key, self.value = (projection(count) for count in (out, tokens, tokens))
        self.out = PerTokenLinear(out, width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.enter = PerTokenLinear(out, width, config.expansion * width, bias=True)
        self.leave = PerTokenLinear(out, config.expansion * width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        own = x[self.first :]  # (n, R, D)
        query = self.query(x)[self.first :] if self.composite else self.query(own)
        query, key, value = (self._heads(part) for part in (query, self.key(x), self.value(x)))
        attended = functional.scaled_dot_product_attention(query, key, value)  # (R, H, n, D / H)
        attended = attended.permute(2, 0, 1, 3).flatten(2)  # (n, R, D)
        own = self.norms[0](self.out(attended) + own)
        fed: Tensor = self.norms[1](self.leave(functional.gelu(self.enter(own))) + own)
        return fed

    def _heads(self, x: Tensor) -> Tensor:
        """(N, R, D) -> (R, H, N, D / H)."""
        return x.view(*x.shape[:2], self.heads, -1).permute(1, 2, 0, 3)  # (R, H, N, D / H)


class HiFormer(HistoryModel):
    """See the module docstring."""

    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        self.enter = PerTokenLinear(inputs.count, config.d, config.width, bias=True)
        task = config.pool == "task"
        self.task = nn.Parameter(torch.randn(config.width) * 0.05) if task else None
        tokens = inputs.count + task
        last = config.layers - 1
        self.layers = nn.Sequential(
            *(_Layer(tokens, config, only_last=task and i == last) for i in range(config.layers))
        )
        self.head = Head(config.width * (1 if task else tokens), labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        fields = self.inputs.tokens(state, candidates).flatten(0, 1).transpose(0, 1)  # (n, R, d)
        x = self.enter(fields)  # (n, R, D)
        if self.task is not None:
            x = torch.cat([x, self.task.to(x.dtype).expand(1, x.shape[1], -1)])  # (n + 1, R, D)
        read = self.layers(x).transpose(0, 1).flatten(1)  # (R, D or n D)
        return self.head(read.view(*candidates.items.shape, -1), candidates.mask)
