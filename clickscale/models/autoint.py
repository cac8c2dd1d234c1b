"""AutoInt (Song et al., CIKM 2019).

Fields attend to each other, layer upon layer, so that each becomes a combination of the others::

    a_ij = softmax_j <W_q e_i, W_k e_j>                        # per head, not divided by a root
    e_i' = relu(concat over heads of sum_j a_ij W_v e_j + W_r e_i)
    logit = w . [e_1, ..., e_n] + MLP([v_1, ..., v_n])

The tower beside the attention makes it AutoInt+ of the paper. With ``deep=false`` the tower reads the
attended fields instead, as in the comparison of Liu et al. (2026).

Deviations: the tower is the head of all models here; the history enters as pooled fields.
"""

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.attention import merge_heads, plain_attend, split_heads
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
        layers: of attention. heads: of each. head_width: of queries, keys and values of a head.
        deep: add a tower beside the attention.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    layers: int = 3
    heads: int = 2
    head_width: int = 32
    deep: bool = True
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "layers", "heads", "head_width")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, layers=layers)
    for i, (d, layers) in enumerate(((8, 1), (8, 3), (16, 3), (32, 4), (144, 6)))
} | {
    "paper": ModelConfig(d=16, layers=6, deep=False, inputs=FieldConfig(simtier=True), head=SMALL_TOWER),
    "debug": ModelConfig(d=4, layers=1, heads=1, head_width=4, head=DEBUG_TOWER),
}


class _Interaction(nn.Module):
    """One layer: fields (R, n, width) -> (R, n, heads * head width)."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        out = heads * head_width
        self.query, self.key, self.value, self.residual = (
            nn.Linear(width, out, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        return torch.relu(merge_heads(plain_attend(query, key, value, None, 1.0)) + self.residual(x))


class AutoInt(HistoryModel):
    """See the module docstring."""

    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        out = config.heads * config.head_width
        widths = [config.d] + [out] * (config.layers - 1)
        self.layers = nn.ModuleList(_Interaction(width, config.heads, config.head_width) for width in widths)
        attended = inputs.count * out
        self.attended = nn.Linear(attended, labels, bias=False) if config.deep else None
        self.head = Head(inputs.count * config.d if config.deep else attended, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        fields = self.inputs.tokens(state, candidates)  # (B, C, n, d)
        rows = fields.flatten(0, 1)  # (R, n, d)
        for layer in self.layers:
            rows = layer(rows)
        attended = rows.view(*candidates.items.shape, -1)  # (B, C, n * heads * head width)
        if self.attended is None:
            return self.head(attended, candidates.mask)
        beside = self.attended(attended).float() * candidates.mask[..., None]  # (B, C, T)
        return self.head(fields.flatten(2), candidates.mask) + beside
