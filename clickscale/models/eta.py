"""ETA: End-to-end Target Attention (Chen et al., 2021).

The signs of fixed random projections of the embeddings are hashes of items. The behaviors whose hashes differ
from that of the candidate in the fewest bits are found in a long history, and attention reads them, beside
DIN over the newest behaviors (`clickscale.models._two_interests`). Hashes follow the embeddings as these
learn.

Resolutions: the projections are drawn once and saved with the weights; of several equally near behaviors the
newest are kept; padding is never found, and places that stay empty are masked.
"""

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._papers import DEBUG_TOWER, SUAN_TOWER
from clickscale.models._two_interests import TwoInterests


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        recent: newest behaviors that form the short interest.
        kept: K, behaviors that the search keeps of all that the candidate sees.
        heads: of the attention over what was found. head_width: of each.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    recent: int = 50
    kept: int = 50
    heads: int = 2
    head_width: int = 16
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "recent", "kept", "heads", "head_width")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, heads=heads)
    for i, (d, heads) in enumerate(((8, 2), (8, 2), (16, 4), (32, 8), (144, 8)))
} | {
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, recent=4, kept=4, head_width=4, head=DEBUG_TOWER),
}


class ETA(HistoryModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = Inputs(features, items, config.d, config.numbers)
        super().__init__(inputs, length)
        self.config = config
        self.interests = TwoInterests(
            features,
            items,
            inputs,
            recent=config.recent,
            kept=config.kept,
            search="hash",
            field="",
            width=config.heads * config.head_width,
            heads=config.heads,
        )
        self.head = head_over(inputs, self.interests.width + inputs.item_width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own = self.inputs.candidates(candidates)  # (B, C, D)
        read = [self.interests(state, own, candidates), own[..., : self.inputs.item_width]]
        context = self.inputs.context(candidates)
        return self.head.over(torch.cat(read, dim=-1), state.profile, context, candidates.mask)
