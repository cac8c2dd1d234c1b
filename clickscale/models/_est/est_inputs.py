"""Inputs of every variant of EST: fields as tokens, and two sequences of behaviors.

Profile, context and candidate fields and SimTier histograms become tokens (N). The newest behaviors (B_u) and
those that a search unit retrieves for each candidate from the whole timeline (B_c) become rows of two
sequences. What the blocks make of them is up to the variant.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError, unknown
from clickscale.features import Features, categorical, column_of, content
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.per_token import FieldTokens, token_names
from clickscale.layers.retrieval import (
    MOST_TIERS,
    ContentTable,
    Cosines,
    ItemTokens,
    SearchResult,
    SearchUnit,
    similarity_tiers,
)
from clickscale.layers.visibility import SelectedBehaviors, Visibility, first_column
from clickscale.state import State


class EstConfig(Config, frozen=True):
    """Options of every variant of EST; ``auto`` takes the first choice that the data set allows.

    Attributes:
        d: width of one feature's embedding.
        width: D, width of a token.
        blocks: of attention. heads: of each block.
        recent: behaviors in B_u.
        kept: K, behaviors in B_c; 0 leaves B_c out.
        search: how B_c is found: by ``content`` cosine, by shared values of an item ``field``, by ``learned``
            projections (whose relevance then enters attention), by ``hash`` of the item's embeddings.
        field: the item field of ``search=field``; the first categorical attribute, or else the item id.
        content: content vectors enter by ``simtier`` histograms, as a ``side`` token, ``both``, or ``none``.
        tiers: bins of a SimTier histogram.
        token_hidden, row_hidden: hidden widths of the feed-forwards of tokens and of behaviors; 0 is 2/3 D.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
        head: the tower over the last tokens and the mean of the last behaviors.
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
    token_hidden: int = 0
    row_hidden: int = 0
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads", "recent", "tiers")
        check_least(self, 0, "kept", "token_hidden", "row_hidden")
        if self.tiers > MOST_TIERS:
            raise ConfigError(f"tiers is {self.tiers}; at most {MOST_TIERS} are possible.")
        if self.width % self.heads:
            raise ConfigError(
                f"width={self.width} is not a multiple of heads={self.heads}; each head takes an equal part."
            )

    @property
    def hidden(self) -> tuple[int, int]:
        """Hidden widths of the feed-forwards of tokens and of behaviors."""
        # The paper counts two matrices of D x D. A SwiGLU has three: they hold as many weights at 2/3 D.
        default = 2 * self.width // 3
        return self.token_hidden or default, self.row_hidden or default


AnyConfig = TypeVar("AnyConfig", bound=EstConfig)


def embedded_features(features: Features, config: EstConfig) -> Features:
    """The features that become tokens: content vectors are one only if ``config`` asks for it."""
    if config.content in ("side", "both"):
        return features
    return replace(features, item=tuple(field for field in features.item if field.kind != "content"))


def resolve_inputs(config: AnyConfig, features: Features) -> AnyConfig:
    """Decide every ``auto`` of `EstConfig`.

    Raises:
        ConfigError: an option needs content vectors or a field that the data set does not have.
    """
    has_content = bool(content(features.item))
    if config.search == "auto":
        config = replace(config, search="content" if has_content else "field")
    if config.content == "auto":
        config = replace(config, content="simtier" if has_content else "none")
    if config.search == "content":
        require_content(features, "search", config.search)
    if config.content != "none":
        require_content(features, "content", config.content)
    fields = [feature.name for feature in categorical(features.item)]
    if not config.field:
        attributes = fields[1:]  # the item id is the first field
        config = replace(config, field=attributes[0] if attributes else fields[0])
    if config.field not in fields:
        raise ConfigError(unknown("item field", config.field, fields))
    return config


def require_content(features: Features, option: str, value: str) -> None:
    """Refuse the value of an option that needs content vectors where items have none."""
    if not content(features.item):
        raise ConfigError(
            f"{option}={value} needs content vectors of items, which the data set does not have; add them"
            f" (clickscale content --help) or set {option}=auto."
        )


@dataclass(frozen=True)
class Timeline(State):
    """State of a user in every variant: the profile and L behaviors.

    Attributes:
        items, times: (B, L); whatever is looked up by item is not copied into the state.
        behaviors: (B, L, W) embedded fields.
        profile: (B, n, D) tokens.
    """

    GROWS = {"items": 1, "times": 1, "behaviors": 1}

    items: Tensor
    times: Tensor
    behaviors: Tensor
    profile: Tensor


@dataclass(frozen=True)
class CandidateInputs:
    """Inputs of the blocks for the candidates of a batch. A row is a candidate: R = B * C.

    Attributes:
        tokens: (N, R, D) of all fields and histograms.
        behaviors: (B, L, W) of the state, in the precision of the tokens.
        visibility: what each candidate sees of the timeline.
        recent: (B, C', L) bool, the recent behaviors that each candidate sees.
        retrieved: the behaviors retrieved for each candidate; None with ``kept=0``.
        relevance: (B, C, K) of the retrieved ones, if the search is learned.
    """

    tokens: Tensor
    behaviors: Tensor
    visibility: Visibility
    recent: Tensor
    retrieved: SelectedBehaviors | None
    relevance: Tensor | None


class EstInputs(Inputs):
    """Look-ups, tokens, rows of behaviors, and the search.

    Args:
        config: with every ``auto`` decided.
        compares_behaviors: whether the variant itself compares behaviors by content.

    Attributes:
        names: of all N tokens.
        vectors: content of the items, or None if nothing compares content.
        recent_rows, kept_rows: from an embedded behavior to a row of B_u and of B_c.
    """

    def __init__(
        self, features: Features, items: ItemColumns, config: EstConfig, *, compares_behaviors: bool
    ) -> None:
        vectors = [np.asarray(items[column_of(feature.name)]) for feature in content(features.item)]
        features = embedded_features(features, config)
        super().__init__(features, items, config.d, config.numbers)
        self.recent, self.kept, self.tiers = config.recent, config.kept, config.tiers
        self.has_histograms = config.content in ("simtier", "both")
        compares = compares_behaviors or self.has_histograms or config.search == "content"
        self.vectors = ContentTable(vectors) if vectors and compares else None
        histograms: tuple[str, ...] = ()
        if self.has_histograms:
            histograms = ("tiers.recent", "tiers.kept") if config.kept else ("tiers.recent",)
        fields = token_names(features.profile, features.context, features.item)
        self.tokens = FieldTokens(fields, histograms, config.d, config.tiers, config.width)
        self.names = self.tokens.names
        self.recent_rows = nn.Linear(self.width, config.width)
        if config.kept:
            # The paper gives each sequence a tokenizer of its own.
            self.kept_rows = nn.Linear(self.width, config.width)
            codes = np.asarray(items[column_of(config.field)]) if config.search == "field" else None
            assert config.search != "auto", "the options are resolved"
            self.search = SearchUnit(config.search, config.kept, self.item_width, codes)

    def timeline(self, user: UserSide) -> Timeline:
        """Everything that is looked up for a user."""
        profile = self.tokens.profile(self.profile(user))
        return Timeline(user.items, user.times, self.behaviors(user), profile)

    def of_candidates(self, timeline: Timeline, candidates: CandidateSide) -> CandidateInputs:
        """Tokens of the candidates, and which behaviors belong to them."""
        visibility = Visibility.of(candidates, timeline.items, timeline.times)
        items = self.candidate_items(candidates)  # (B, C, item fields * d)
        behaviors = timeline.behaviors.to(items.dtype)
        # The search and the histograms read the same cosines.
        cosines = None
        if self.vectors is not None:
            cosines = self.vectors.compare(candidates.items, timeline.items)
        recent = visibility.newest(self.recent)
        # The search looks at everything that a candidate sees, the recent behaviors included.
        result = None
        if self.kept:
            held = ItemTokens(timeline.items, behaviors[..., : self.item_width])
            result = self.search(ItemTokens(candidates.items, items), held, visibility.seen, cosines)
        fields = torch.cat([self.context(candidates), items], dim=-1)
        fields = fields.view(*candidates.items.shape, -1, self.dim)  # (B, C, fields, d)
        # A histogram compares behaviors with the candidate, so none of them is part of the state.
        histograms = [] if cosines is None else self._histograms(cosines, recent, result)
        return CandidateInputs(
            self.tokens(timeline.profile, fields, histograms),
            behaviors,
            visibility,
            recent,
            visibility.select(result.columns, result.mask) if result else None,
            result.relevance if result else None,
        )

    def _histograms(self, cosines: Cosines, recent: Tensor, result: SearchResult | None) -> list[Tensor]:
        """Histograms (B, C, tiers) of the similarities of each sequence."""
        if not self.has_histograms:
            return []
        start = first_column(recent)  # nothing left of it is counted
        counted = cosines.known[..., start:] & recent[..., start:]
        histograms = [similarity_tiers(cosines.dots[..., start:], counted, self.tiers)]
        if result is not None:
            known = cosines.known.gather(-1, result.columns) & result.mask  # (B, C, K)
            histograms.append(similarity_tiers(cosines.dots.gather(-1, result.columns), known, self.tiers))
        return histograms
