"""SIM: Search-based Interest Model (Pi et al., CIKM 2020).

A long history is searched for what concerns the candidate, and attention reads what was found, beside DIN
over the newest behaviors (`clickscale.models._two_interests`). Preset ``soft`` searches by learned
projections of the embeddings, preset ``hard`` takes the newest behaviors of the candidate's category.

Resolutions: of several equally relevant behaviors the newest are kept; padding is never found, and places
that stay empty are masked.

The projections of the soft search cannot learn through the choice of behaviors. With ``auxiliary`` above 0
they learn as in the paper, by a tower of their own that reads all behaviors weighted by relevance::

    loss += auxiliary * log-loss of tower([sum_j relevance_j e_j, e_candidate, ...])

Deviations: with ``auxiliary=0`` they learn through their relevance, which is added to the scores of
attention.
"""

from typing import Literal

import torch
from torch import Tensor

from clickscale.batch import Batch
from clickscale.config import check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.head import head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.visibility import Visibility
from clickscale.models._history import HistoryState
from clickscale.models._losses import label_losses
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER
from clickscale.models._two_interests import InterestConfig, TwoInterestModel


class ModelConfig(InterestConfig, frozen=True):
    """Options, with those of `InterestConfig`.

    Attributes:
        search: relevance by ``learned`` projections (soft), by shared values of an item ``field`` (hard), or
            by ``content`` cosine.
        field: that a hard search compares; the first attribute of the item if empty.
        auxiliary: weight of the loss of a learned search; the paper's is 1.
    """

    search: Literal["learned", "field", "content"] = "learned"
    field: str = ""
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 0, "auxiliary")
        if self.auxiliary and self.search != "learned":
            raise ConfigError(
                f"auxiliary={self.auxiliary} trains a learned search, and search={self.search} learns"
                " nothing; set auxiliary=0."
            )


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, heads=heads)
    for i, (d, heads) in enumerate(((8, 2), (8, 2), (16, 4), (32, 8), (144, 8)))
} | {
    "soft": ModelConfig(search="learned"),
    "hard": ModelConfig(search="field"),
    "paper": ModelConfig(auxiliary=1.0, head=SUAN_TOWER),
    "paper-hard": ModelConfig(search="field", head=SUAN_TOWER),
    "debug": ModelConfig(d=4, recent=4, kept=4, head_width=4, head=DEBUG_TOWER),
}


class SIM(TwoInterestModel):
    """See the module docstring."""

    config: ModelConfig

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__(
            features,
            items,
            config,
            length,
            labels,
            search=config.search,
            field=config.field,
            relevance_counts=not config.auxiliary,
        )
        self.search_head = None
        if config.auxiliary:
            read = self.inputs.width + self.inputs.item_width
            self.search_head = head_over(self.inputs, read, labels, config.head)

    def auxiliary_loss(self, state: HistoryState, batch: Batch) -> Tensor | None:
        """Log-loss of the tower over all behaviors; see the module docstring."""
        if self.search_head is None:
            return None
        own, tokens = self.inputs.candidates(batch.candidates), state.tokens
        shown = Visibility.of(batch.candidates, state.items, state.times)
        relevance = self.interests.search.relevance(own, tokens) * shown.seen  # (B, C, L)
        items = own[..., : self.inputs.item_width]
        read = torch.cat([relevance @ tokens, items], dim=-1)  # (B, C, D + item width)
        context = self.inputs.context(batch.candidates)
        logits = self.search_head.over(read, state.profile, context, batch.candidates.mask)
        return self.config.auxiliary * label_losses(logits, batch.labels, batch.label_mask).sum()
