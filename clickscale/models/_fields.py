"""The fields of one impression as tokens, for models that let fields interact.

Such a model has one row of tokens per candidate: profile, item and context fields, and the history as one
pooled behavior, whose fields are tokens as well. In this form Liu et al. (2026, section 6.1) compare models
that do not read a sequence.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide, sees_columns
from clickscale.config import Config
from clickscale.errors import ConfigError
from clickscale.features import Features, column_of, content
from clickscale.layers.embedding import Numbers
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.local_activation import LocalActivation
from clickscale.layers.retrieval import ContentTable, similarity_tiers
from clickscale.models._history import HistoryState

TIERS = 20  # of a SimTier histogram: each a tenth of the cosine wide (Sheng et al. 2024)


class FieldConfig(Config, frozen=True):
    """How the history enters.

    Attributes:
        sequence: the pooled behavior is the ``mean`` of what the candidate sees, or its sum weighted by
            ``din``.
        simtier: add a token made of the histogram of the cosines between the content of the candidate and
            of the behaviors (Sheng et al. 2024); needs content vectors.
    """

    sequence: Literal["mean", "din"] = "din"
    simtier: bool = False


class FieldInputs(Inputs):
    """From a batch to the tokens (B, C, n, d) of its candidates.

    Attributes:
        count: n, number of tokens.

    Raises:
        ConfigError: ``simtier`` without content vectors.
    """

    def __init__(
        self, features: Features, items: ItemColumns, dim: int, numbers: Numbers, config: FieldConfig
    ) -> None:
        super().__init__(features, items, dim, numbers)
        self.activation = LocalActivation(self.width) if config.sequence == "din" else None
        fields = self.width + self.item_width  # of the pooled behavior and of the candidate
        self.count = fields // dim + self.profile_tokens + self.context_tokens
        self.vectors = None
        if config.simtier:
            columns = [np.asarray(items[column_of(feature.name)]) for feature in content(features.item)]
            if not columns:
                raise ConfigError(
                    "inputs.simtier=true needs content vectors of items, which the data set does not have;"
                    " add them (clickscale content --help) or leave it out."
                )
            self.vectors = ContentTable(columns)
            self.histogram = nn.Linear(TIERS, dim)
            self.count += 1

    def tokens(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Tokens (B, C, n, d): profile, item, context, pooled behavior, histogram."""
        items = self.candidate_items(candidates)  # (B, C, item width)
        seen = sees_columns(candidates.oldest, candidates.visible, state.items > 0)  # (B, C, L)
        behaviors = state.tokens.to(items.dtype)
        profile = state.profile.to(items.dtype).flatten(1)[:, None].expand(-1, items.shape[1], -1)
        parts = [profile, items, self.context(candidates), self._pooled(candidates, behaviors, seen)]
        if self.vectors is not None:
            cosines = self.vectors.compare(candidates.items, state.items)
            tiers = similarity_tiers(cosines.dots, cosines.known & seen, TIERS)  # (B, C, tiers)
            parts.append(self.histogram(tiers.to(items.dtype)))
        return torch.cat(parts, dim=-1).view(*candidates.items.shape, self.count, self.dim)

    def _pooled(self, candidates: CandidateSide, behaviors: Tensor, seen: Tensor) -> Tensor:
        """(B, C, D) of the behaviors (B, L, D) that each candidate sees (B, C, L)."""
        if self.activation is not None:
            return self.activation(self.candidates(candidates), behaviors, seen) @ behaviors
        counted = seen.to(behaviors.dtype)
        return counted @ behaviors / counted.sum(dim=-1, keepdim=True).clamp(min=1)
