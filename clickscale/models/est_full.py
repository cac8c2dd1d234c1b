"""EST with full self-attention, the variant that EST is compared with (Liu et al. 2026, section 4, table 4).

The tokens of profile, context and candidate (N) and the behaviors (B: recent ones B_u, retrieved ones B_c)
are one sequence, in which everything attends to everything:

    sequence = [N, B_u, B_c]
    for block in blocks:
        sequence += self-attention over the sequence        # layers/full_attention.py
        sequence += feed-forwards: one per token, one for all behaviors
    logits = tower(tokens, mean of [B_u, B_c])

Behaviors read the candidate's tokens, so all blocks are computed for every candidate; only the first block's
projections of behaviors are shared. A pair <query, key> of kinds can be cut (``mask_blocks``, table 1),
and `clickscale analyze blocks` takes a trained model of this kind apart.

Resolution: keys and values of tokens come from the projection that behaviors use. Attention has no bias by
time, so order enters by the choice of the behaviors only, as in the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.head import Head
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.visibility import take_columns
from clickscale.models._base import CTRModel, FeatureAxis
from clickscale.models._est.est_inputs import EstConfig, EstInputs, Timeline, resolve_inputs
from clickscale.models._est.feature_axes import feature_axes
from clickscale.models._est.full_attention import FullStack, PairKind
from clickscale.models._papers import EST_TOWER


class ModelConfig(EstConfig, frozen=True):
    """Options, with those of `EstConfig`.

    Attributes:
        mask_blocks: pairs of query and key that are cut: any of ``NN``, ``NB``, ``BN``, ``BB`` (N tokens, B
            behaviors). Every token and behavior always sees itself.
    """

    mask_blocks: tuple[PairKind, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search == "learned":
            raise ConfigError(
                "search=learned is trained by adding its relevance to the logits of cross-attention, which"
                " full attention does not have; choose content, field or hash."
            )


_SIZES = ((8, 32, 1), (8, 32, 2), (16, 64, 3), (32, 128, 4), (64, 256, 6))  # d, width, blocks, as of EST
PRESETS = {
    f"size-{grade}": ModelConfig(d=d, width=width, blocks=blocks)
    for grade, (d, width, blocks) in enumerate(_SIZES, start=1)
} | {
    "est-paper": ModelConfig(
        d=16, width=128, blocks=6, content="simtier", token_hidden=85, row_hidden=85, head=EST_TOWER
    )
}
PRESETS |= {"paper": PRESETS["est-paper"], "debug": ModelConfig(d=4, width=8, blocks=1, kept=4)}


@dataclass(frozen=True)
class _FullState(Timeline):
    """A timeline, and what the first block makes of it.

    Attributes:
        rows: (B, L, D) of B_u.
        projected: (B, L, 3 D) their queries, keys and values in the first block.
    """

    GROWS = {**Timeline.GROWS, "rows": 1, "projected": 1}

    rows: Tensor
    projected: Tensor


class ESTFull(CTRModel[_FullState]):
    """See the module docstring."""

    causal = False

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        config = self.chosen = resolve_inputs(config, features)
        self.inputs = EstInputs(features, items, config, compares_behaviors=False)
        tokens = len(self.inputs.names)
        self.full = FullStack(
            tokens, config.width, config.heads, config.blocks, config.hidden, config.mask_blocks
        )
        self.head = Head((tokens + 1) * config.width, labels, config.head)

    def encode_user(self, user: UserSide) -> _FullState:
        """The timeline as it is looked up, and the first projections of its rows."""
        timeline = self.inputs.timeline(user)
        rows = self.inputs.recent_rows(timeline.behaviors)  # (B, L, D)
        return _FullState(
            timeline.items,
            timeline.times,
            timeline.behaviors,
            timeline.profile,
            rows,
            self.full.project(rows),
        )

    def feature_axes(self, features: Features) -> Mapping[str, FeatureAxis]:
        """See `CTRModel`."""
        return feature_axes(self, self.chosen, self.inputs.names, features)

    def score(self, state: _FullState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        inputs = self.inputs.of_candidates(state, candidates)
        window = inputs.visibility.window(self.chosen.recent)
        rows = take_columns(state.rows, window.columns)  # (R, W, D)
        projected = take_columns(state.projected, window.columns)  # (R, W, 3 D)
        mask = window.row_mask
        if inputs.retrieved is not None:
            # The projection of B_c is computed once per behavior as well; then every candidate takes its own.
            every = self.inputs.kept_rows(inputs.behaviors)  # (B, L, D)
            columns = inputs.retrieved.columns
            rows = torch.cat([rows, take_columns(every, columns)], dim=1)  # (R, W + K, D)
            own = take_columns(self.full.project(every), columns)
            projected = torch.cat([projected, own], dim=1)  # (R, W + K, 3 D)
            mask = torch.cat([mask, inputs.retrieved.row_mask], dim=1)
        tokens, mean = self.full(inputs.tokens, rows, projected, mask)
        read = torch.cat([tokens.transpose(0, 1).flatten(1), mean], dim=1)  # (R, (N + 1) * D)
        return self.head(read.view(*candidates.items.shape, -1), candidates.mask)  # (B, C, T)
