"""DeepFM (Guo et al., IJCAI 2017).

A factorization machine and a tower read the same embeddings and their logits add up::

    logit = sum_i w_i + sum_{i<j} <v_i, v_j> + MLP([v_1, ..., v_n])

The pair sum is half of ``|sum_i v_i|^2 - sum_i |v_i|^2``, so it costs n * d. A field is a token of
`clickscale.models._fields`; the pooled history takes part as tokens. The weight w_i of a value is one more
number of its embedding, so that one look-up fetches both.

Deviations: the tower is the head of all models here; with several labels, the machine's logit is shared.
"""

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.models._fields import FieldConfig, FieldInputs
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))} | {
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, head=DEBUG_TOWER),
}


class DeepFM(HistoryModel):
    """See the module docstring."""

    adds_products = True
    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d + 1, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        self.head = Head(inputs.count * config.d, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        tokens = self.inputs.tokens(state, candidates)  # (B, C, n, 1 + d)
        weights, vectors = tokens[..., 0], tokens[..., 1:]
        squares = vectors.sum(dim=-2).square() - vectors.square().sum(dim=-2)  # (B, C, d), twice the pairs
        machine = weights.sum(dim=-1) + squares.sum(dim=-1) / 2  # (B, C)
        machine = torch.where(candidates.mask, machine.float(), 0)
        return self.head(vectors.flatten(2), candidates.mask) + machine[..., None]  # (B, C, T)
