"""EST: Efficiently Scalable Transformer (Liu et al., 2026).

Profile, context and candidate are tokens of their own (N); the user's recent behaviors (B_u) and those that a
search unit retrieves for each candidate from the whole timeline (B_c) are two sequences. In each block the
tokens query both sequences (lightweight cross-attention), every behavior gathers its nearest by content
(Content Sparse Attention), and feed-forwards follow. Tokens and the behaviors' mean enter the tower.

Resolutions and deviations, each an option: content attention looks at earlier behaviors only
(``csa="causal"``), so that a timeline is encoded once and can grow; time and position enter cross-attention
as a bias, since a behavior that is encoded for every candidate cannot know how long ago it will have been;
content is compared on a grid of 1/4000, so that ties are ties in every batch.
"""

from collections.abc import Mapping
from typing import Literal, cast

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError, InputError, unknown
from clickscale.layers.bias import AttentionBias
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.per_token import FieldTokens, token_names
from clickscale.layers.retrieval import ContentTable, Cosines, Found, SearchKind, SearchUnit
from clickscale.layers.visibility import Picked, Sight, first_column, take_columns
from clickscale.models._base import CTRModel, FeatureAxis
from clickscale.models._est.content_attention import Reach, Weighting
from clickscale.models._est.feature_axes import feature_axes
from clickscale.models._est.full_attention import Blocks, FullStack
from clickscale.models._est.light_stack import LightStack, Recent, TimelineState
from clickscale.models._est.simtier import similarity_tiers
from clickscale.schema import Features, categorical, content


class ModelConfig(Config, frozen=True):
    """Options; ``auto`` takes the first choice that the data set allows.

    Attributes:
        d: width of one feature's embedding. width: D of a token.
        blocks: blocks of the stack. heads: of cross-attention.
        recent: behaviors in B_u. kept: behaviors in B_c; 0 leaves B_c out.
        search: how B_c is found: by ``content`` cosine, by shared values of an item ``field``, by ``learned``
            projections (whose relevance then enters cross-attention), by ``hash`` of the item's embeddings.
        field: the item field of ``search=field``; the first categorical attribute, or else the item id.
        content: content vectors enter by ``simtier`` histograms, as a ``side`` token, ``both``, or ``none``.
        tiers: bins of a SimTier histogram.
        csa: Content Sparse Attention of B_u over ``causal``ly earlier behaviors, over all of it (``paper``;
            not causal), or ``none``; ``causal`` and ``paper`` are alike on B_c, all of which is visible.
        neighbors: K of Content Sparse Attention. weighting: of their cosines.
        attention: ``light``, or ``full`` self-attention over everything.
        mask_blocks: parts of full attention that are cut (query and key; N: tokens, B: behaviors).
        token_hidden: hidden width of the feed-forwards of tokens; 0 is 2/3 D.
        row_hidden: hidden width of the feed-forwards of behaviors; 0 is 2/3 D.
        time: a ``bias`` of cross-attention by time and distance, or ``none``.
    """

    d: int = 8
    width: int = 32
    blocks: int = 2
    heads: int = 1
    recent: int = 300
    kept: int = 50
    search: Literal["auto", "content", "field", "learned", "hash"] = "auto"
    field: str = ""
    content: Literal["auto", "simtier", "side", "both", "none"] = "auto"
    tiers: int = 20
    csa: Literal["auto", "causal", "paper", "none"] = "auto"
    neighbors: int = 5
    weighting: Weighting = "none"
    attention: Literal["light", "full"] = "light"
    mask_blocks: tuple[Blocks, ...] = ()
    token_hidden: int = 0
    row_hidden: int = 0
    time: Literal["bias", "none"] = "bias"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads", "recent", "tiers", "neighbors")
        check_least(self, 0, "kept", "token_hidden", "row_hidden")
        if self.tiers > 64 or self.width % self.heads:
            raise ConfigError(
                f"tiers={self.tiers} is over 64, or heads={self.heads} no part of {self.width}."
            )
        if self.mask_blocks and self.attention == "light":
            raise ConfigError("mask_blocks cuts full attention; set attention=full too.")


_SIZES = ((8, 32, 1), (8, 32, 2), (16, 64, 3), (32, 128, 4), (64, 256, 6))
_TOWER = HeadConfig(norm="none", activation="relu")
_PAPER = ModelConfig(d=16, width=128, blocks=6, content="simtier", csa="paper", time="none", row_hidden=85)
PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, width=width, blocks=n) for i, (d, width, n) in enumerate(_SIZES)
} | {
    "est-paper": replace(_PAPER, token_hidden=85, head=replace(_TOWER, hidden=(6656, 5376, 384, 64))),
    "est-blocks": replace(_PAPER, token_hidden=768, head=replace(_TOWER, hidden=(256, 64))),
}


def resolved(config: ModelConfig, features: Features) -> ModelConfig:
    """The options with every ``auto`` decided.

    Raises:
        ConfigError: an option needs content vectors or a field that the data set does not have.
    """
    has = bool(content(features.item))
    fields = [feature.name for feature in categorical(features.item)]
    best = {"search": "field", "content": "none", "csa": "none"}
    if has:
        best = {"search": "content", "content": "simtier", "csa": "causal"}
    chosen = {name: value for name, value in best.items() if getattr(config, name) == "auto"}
    config = replace(config, field=config.field or fields[:2][-1], **chosen)
    for name in best:
        value = getattr(config, name)
        if not has and value not in ("field", "learned", "hash", "none"):
            raise ConfigError(
                f"{name}={value} needs content vectors of items, which the data set does not have; add them"
                f" (clickscale content --help) or set {name}=auto."
            )
    if config.field not in fields:
        raise ConfigError(unknown("item field", config.field, fields))
    return config


def _embedded(features: Features, config: ModelConfig) -> Features:
    """The features that become tokens: content vectors only if ``config`` asks for it."""
    if config.content in ("side", "both"):
        return features
    return replace(features, item=tuple(f for f in features.item if f.kind != "content"))


class EST(CTRModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        config = self.chosen = resolved(config, features)
        self.causal = config.csa != "paper" and config.attention == "light"
        used = {"simtier", "both", "content", "causal", "paper"} & {config.content, config.search, config.csa}
        vectors = [np.asarray(items[f"field.{f.name}"]) for f in content(features.item) if used]
        features = _embedded(features, config)
        self.inputs = Inputs(features, items, config.d)
        self.vectors = ContentTable(vectors) if vectors else None
        self.counts = config.content in ("simtier", "both")
        counted = ("tiers.recent", "tiers.kept")[: self.counts * (1 + (config.kept > 0))]
        named, width = token_names(features.profile, features.context, features.item), config.width
        self.tokens = FieldTokens(named, counted, config.d, config.tiers, width)
        self.recent_rows = nn.Linear(self.inputs.width, width)
        if config.kept:
            self.kept_rows = nn.Linear(self.inputs.width, width)
            codes = np.asarray(items[f"field.{config.field}"]) if config.search == "field" else None
            kind = cast(SearchKind, config.search)
            self.search = SearchUnit(kind, config.kept, self.inputs.item_width, codes)
        hidden = config.token_hidden or 2 * width // 3, config.row_hidden or 2 * width // 3
        sizes = len(self.tokens.names), width, config.heads, config.blocks, hidden
        if config.attention == "full":
            self.full = FullStack(*sizes, config.mask_blocks)
        else:
            reach = Reach(config.neighbors, self.causal, config.recent, config.weighting)
            self.light = LightStack(
                *sizes,
                bias=AttentionBias("none" if config.time == "none" else "shared", 1, 1, length, "octave"),
                recent=config.recent,
                reach=reach if config.csa != "none" else None,
                table=self.vectors,
            )
        self.head = Head((sizes[0] + 1) * width, labels, config.head)

    def encode_user(self, user: UserSide) -> TimelineState:
        """The recent behaviors through all blocks; the embedded timeline; tokens of the profile."""
        behaviors = self.inputs.behaviors(user)
        profile = self.tokens.profile(self.inputs.profile(user))
        common = user.items, user.times, behaviors, profile
        if self.chosen.attention == "full":
            rows = self.recent_rows(behaviors)
            return TimelineState(*common, (), (), (rows, self.full.project(rows)), profile[:, :1])
        first = 0 if self.causal else max(user.items.shape[1] - self.chosen.recent, 0)
        encoded = self.light.encode(self.recent_rows(behaviors[:, first:]), user.items[:, first:])
        return TimelineState(*common, *encoded)

    def extend_user(self, state: TimelineState, user: UserSide) -> TimelineState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded, the model is not causal, or the state is for scoring.
        """
        whole = state.sums.shape[1] == state.items.shape[1] + 1 and (state.rows or self.chosen.csa == "none")
        if not (self.causal and whole and bool(user.mask.all())):
            raise InputError("extend_user needs a causal model, a whole state, as many behaviors per row.")
        behaviors = self.inputs.behaviors(user)
        pairs = (state.items, user.items), (state.times, user.times), (state.behaviors, behaviors)
        items, times, joined = (torch.cat([old.to(new.dtype), new], dim=1) for old, new in pairs)
        encoded = self.light.encode(self.recent_rows(behaviors), items, state)
        return TimelineState(items, times, joined, state.profile, *encoded)

    def scoring_state(self, state: TimelineState) -> TimelineState:  # type: ignore[override]
        """See `CTRModel`; of what the blocks computed only the last ``recent`` behaviors stay."""
        return state.newest(self.chosen.recent) if self.causal else state

    def score(self, state: TimelineState, candidates: CandidateSide) -> Tensor:  # type: ignore[override]
        """Logits (B, C, T)."""
        sight = Sight.of(candidates, state.items, state.times)
        items = self.inputs.candidate_items(candidates)
        behaviors = state.behaviors.to(items.dtype)
        cosines = self.vectors.compare(candidates.items, state.items) if self.vectors else None
        recent, found, kept = sight.newest(self.chosen.recent), None, None
        if self.chosen.kept:
            held = behaviors[..., : self.inputs.item_width]
            found = self.search((candidates.items, items), (state.items, held), sight.seen, cosines)
            kept = sight.pick(found.columns, found.mask)
        fields = torch.cat([self.inputs.context(candidates), items], dim=-1)
        fields = fields.view(*candidates.items.shape, -1, self.chosen.d)
        tokens = self.tokens(state.profile, fields, self._histograms(cosines, recent, found))
        if self.chosen.attention == "full":
            tokens, mean = self._full(state, tokens, behaviors, sight, kept)
        else:
            shared = self.light.shared(state, sight, recent) or self._alone(behaviors, sight)
            retrieved = None
            if kept and found:
                retrieved = self.light.kept(self.kept_rows(behaviors), kept, found.relevance)
            tokens, mean = self.light(tokens, shared, retrieved)
        read = torch.cat([tokens.transpose(0, 1).flatten(1), mean], dim=1)
        return self.head(read.view(*candidates.items.shape, -1), candidates.mask)

    def feature_axes(self, features: Features) -> Mapping[str, FeatureAxis]:
        """See `CTRModel`."""
        return feature_axes(self.state_dict(), self.tokens.names, _embedded(features, self.chosen))

    def _histograms(self, cosines: Cosines | None, recent: Tensor, found: Found | None) -> list[Tensor]:
        """(B, C, tiers) of the similarities of each sequence."""
        if not self.counts or cosines is None:
            return []
        start = first_column(recent)
        counted = cosines.known[..., start:] & recent[..., start:]
        made = [similarity_tiers(cosines.dots[..., start:], counted, self.chosen.tiers)]
        if found:
            known = cosines.known.gather(-1, found.columns) & found.mask
            made.append(similarity_tiers(cosines.dots.gather(-1, found.columns), known, self.chosen.tiers))
        return made

    def _alone(self, behaviors: Tensor, sight: Sight) -> Recent:
        """B_u of every candidate by itself: not causal, and candidates see only parts of the row."""
        if self.causal:
            raise InputError("This state was kept for candidates that see all of it; encode the user again.")
        window = sight.window(self.chosen.recent)
        return self.light.alone(self.recent_rows(take_columns(behaviors, window.columns)), window)

    def _full(
        self, state: TimelineState, tokens: Tensor, behaviors: Tensor, sight: Sight, kept: Picked | None
    ) -> tuple[Tensor, Tensor]:
        """Everything attends to everything, one candidate at a time."""
        window = sight.window(self.chosen.recent)
        rows, projected, mask = *(take_columns(part, window.columns) for part in state.rows), window.mask
        if kept:
            own = take_columns(self.kept_rows(behaviors), kept.columns)
            rows, mask = torch.cat([rows, own], dim=1), torch.cat([mask, kept.mask], dim=1)
            projected = torch.cat([projected, self.full.project(own)], dim=1)
        return self.full(tokens, rows, projected, mask)
