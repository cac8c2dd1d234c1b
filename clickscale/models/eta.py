"""ETA: End-to-end Target Attention (Chen et al., 2021).

The signs of fixed random projections of the embeddings are hashes of items. The behaviors whose hashes differ
from that of the candidate in the fewest bits are found in a long history, and attention reads them, beside
DIN over the newest behaviors (`clickscale.models._two_interests`). Hashes follow the embeddings as these
learn.

Resolutions: the projections are drawn once and saved with the weights; of several equally near behaviors the
newest are kept; padding is never found, and places that stay empty are masked.
"""

from clickscale.features import Features
from clickscale.layers.inputs import ItemColumns
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER
from clickscale.models._two_interests import InterestConfig, TwoInterestModel


class ModelConfig(InterestConfig, frozen=True):
    """Options, those of `InterestConfig`."""


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, heads=heads)
    for i, (d, heads) in enumerate(((8, 2), (8, 2), (16, 4), (32, 8), (144, 8)))
} | {
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, recent=4, kept=4, head_width=4, head=DEBUG_TOWER),
}


class ETA(TwoInterestModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__(features, items, config, length, labels, search="hash")
