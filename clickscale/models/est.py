"""EST: Efficiently Scalable Transformer (Liu et al., 2026).

Profile, context and candidate fields are tokens of their own (N). The user's recent behaviors (B_u) and those
that a search unit retrieves for each candidate from the whole timeline (B_c) are two sequences:

    for block in blocks:
        tokens += lightweight cross-attention of tokens over [B_u, B_c]     # layers/cross_attention.py
        B_u, B_c += Content Sparse Attention, within each sequence          # layers/content_attention.py
        tokens, B_u, B_c += feed-forwards: one per token, one for all behaviors
    logits = tower(tokens, mean of [B_u, B_c])

B_u does not depend on a candidate, so it goes through all blocks once per user and is the state.

Resolutions and deviations, each an option:

* Content attention looks at earlier behaviors only (``csa="causal"``). So a timeline is encoded once for all
  its moments, and behaviors can be appended. The paper's form sees the whole sequence (``csa="paper"``).
* Time and distance enter cross-attention as a bias. A behavior's age depends on the candidate, so it cannot
  be part of a row that is encoded once.
* Content is compared on a grid of 1/4000, so that cosines that tie do so in every batch.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from msgspec.structs import replace
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import check_least
from clickscale.errors import InputError
from clickscale.features import Features, content
from clickscale.layers.bias import AttentionBias
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.visibility import take_columns
from clickscale.models._base import CTRModel, FeatureAxis
from clickscale.models._est.content_attention import NeighborRule, Weighting
from clickscale.models._est.cross_attention import BehaviorSequence
from clickscale.models._est.est_inputs import (
    CandidateInputs,
    EstConfig,
    EstInputs,
    Timeline,
    require_content,
    resolve_inputs,
)
from clickscale.models._est.feature_axes import feature_axes
from clickscale.models._est.light_stack import LightStack, TimelineState


class ModelConfig(EstConfig, frozen=True):
    """Options, with those of `EstConfig`; ``auto`` takes the first choice that the data set allows.

    Attributes:
        csa: Content Sparse Attention of B_u over earlier behaviors (``causal``), over all of it (``paper``;
            the model is then not causal), or ``none``. On B_c ``causal`` and ``paper`` are the same: a
            candidate sees all of its B_c.
        neighbors: behaviors that each gathers, itself included.
        weighting: of their cosines.
        time: a ``bias`` of cross-attention by time and distance, or ``none``.
    """

    csa: Literal["auto", "causal", "paper", "none"] = "auto"
    neighbors: int = 5
    weighting: Weighting = "none"
    time: Literal["bias", "none"] = "bias"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "neighbors")


_SIZES = ((8, 32, 1), (8, 32, 2), (16, 64, 3), (32, 128, 4), (64, 256, 6))  # d, width, blocks
_TOWER = HeadConfig(norm="none", activation="relu")
_PAPER = ModelConfig(d=16, width=128, blocks=6, content="simtier", csa="paper", time="none", row_hidden=85)
PRESETS = {
    f"size-{grade}": ModelConfig(d=d, width=width, blocks=blocks)
    for grade, (d, width, blocks) in enumerate(_SIZES, start=1)
} | {
    # The paper prints 104 million parameters, but not where: in the tower, or in the blocks.
    "est-paper": replace(_PAPER, token_hidden=85, head=replace(_TOWER, hidden=(6656, 5376, 384, 64))),
    "est-blocks": replace(_PAPER, token_hidden=768, head=replace(_TOWER, hidden=(256, 64))),
}
PRESETS |= {"paper": PRESETS["est-paper"], "debug": ModelConfig(d=4, width=8, blocks=1, kept=4)}


def _resolve(config: ModelConfig, features: Features) -> ModelConfig:
    """The options with every ``auto`` decided.

    Raises:
        ConfigError: an option needs content vectors or a field that the data set does not have.
    """
    if config.csa == "auto":
        config = replace(config, csa="causal" if content(features.item) else "none")
    if config.csa != "none":
        require_content(features, "csa", config.csa)
    return resolve_inputs(config, features)


class EST(CTRModel[TimelineState]):
    """See the module docstring.

    Attributes:
        config: the options as given; chosen: with every ``auto`` decided.
    """

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        config = self.chosen = _resolve(config, features)
        self.causal = config.csa != "paper"
        self.inputs = EstInputs(features, items, config, compares_behaviors=config.csa != "none")
        rule = None
        if config.csa != "none":
            rule = NeighborRule(config.neighbors, self.causal, config.recent, config.weighting)
        tokens = len(self.inputs.names)
        self.light = LightStack(
            tokens,
            config.width,
            config.heads,
            config.blocks,
            config.hidden,
            bias=AttentionBias("none" if config.time == "none" else "shared", 1, 1, length, "octave"),
            recent=config.recent,
            rule=rule,
            table=self.inputs.vectors,
        )
        self.head = Head((tokens + 1) * config.width, labels, config.head)

    def encode_user(self, user: UserSide) -> TimelineState:
        """The timeline as it is looked up, and the recent behaviors through all blocks."""
        timeline = self.inputs.timeline(user)
        # Causal rows before B_u are encoded too: an earlier candidate of the row has them in its B_u. Rows of
        # a model that is not causal would gather them, so there they must not be.
        first = 0 if self.causal else max(user.items.shape[1] - self.chosen.recent, 0)
        rows = self.inputs.recent_rows(timeline.behaviors[:, first:])  # (B, M, D)
        return TimelineState.of(timeline, self.light.encode(rows, user.items[:, first:]))

    def extend_user(self, state: TimelineState, user: UserSide) -> TimelineState:
        """State of the longer history, exactly as `encode_user` gives it.

        Every row gains equally many behaviors; none of them is padding.

        Raises:
            InputError: the model is not causal, the state was cut for scoring, or ``user`` is padded.
        """
        self._check_extension(state, user)
        behaviors = self.inputs.behaviors(user)
        longer = Timeline(
            torch.cat([state.items, user.items], dim=1),
            torch.cat([state.times, user.times], dim=1),
            torch.cat([state.behaviors.to(behaviors.dtype), behaviors], dim=1),
            state.profile,
        )
        encoded = self.light.encode(self.inputs.recent_rows(behaviors), longer.items, state)
        return TimelineState.of(longer, encoded)

    def _check_extension(self, state: TimelineState, user: UserSide) -> None:
        if not self.causal:
            raise InputError(
                "With csa=paper the model is not causal: a new behavior changes earlier ones. Encode the"
                " longer history with encode_user, or train with csa=causal."
            )
        has_rows = bool(state.rows) or self.chosen.csa == "none"
        if state.encoded_length < state.items.shape[1] or not has_rows:
            raise InputError(
                "scoring_state has cut this state; extend_user needs the whole one, as encode_user gives it."
            )
        if not bool(user.mask.all()):
            raise InputError(
                "Some of the rows to append are padded; extend_user takes as many behaviors for every row."
                " Append to rows of other lengths one by one."
            )

    def scoring_state(self, state: TimelineState) -> TimelineState:
        """See `CTRModel`; of what the blocks computed only the last ``recent`` behaviors stay."""
        return state.newest(self.chosen.recent) if self.causal else state

    def score(self, state: TimelineState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        inputs = self.inputs.of_candidates(state, candidates)
        recent = self.light.recent_of_state(state, inputs.visibility, inputs.recent)
        sequences = [recent or self._recent_of_each(inputs)]
        if inputs.retrieved is not None:
            rows = self.inputs.kept_rows(inputs.behaviors)  # (B, L, D)
            sequences.append(self.light.retrieved(rows, state.items, inputs.retrieved, inputs.relevance))
        tokens, mean = self.light(inputs.tokens, tuple(sequences))
        read = torch.cat([tokens.transpose(0, 1).flatten(1), mean], dim=1)  # (R, (N + 1) * D)
        return self.head(read.view(*candidates.items.shape, -1), candidates.mask)  # (B, C, T)

    def feature_axes(self, features: Features) -> Mapping[str, FeatureAxis]:
        """See `CTRModel`."""
        return feature_axes(self, self.chosen, self.inputs.names, features)

    def _recent_of_each(self, inputs: CandidateInputs) -> BehaviorSequence:
        """B_u of every candidate by itself: it has gathered rows that the candidate does not see."""
        if self.causal:
            raise InputError(
                "scoring_state has cut this state to what candidates after the newest behavior see, and a"
                " candidate sees earlier ones; encode the user again."
            )
        window = inputs.visibility.window(self.chosen.recent)
        rows = self.inputs.recent_rows(take_columns(inputs.behaviors, window.columns))  # (R, W, D)
        return self.light.recent_of_each(rows, window)
