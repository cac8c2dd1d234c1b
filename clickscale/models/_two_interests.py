"""Two interests of a user in a candidate: of the newest behaviors, and of what a search finds in all of them.

The first is DIN's weighted sum. For the second, a search takes the K behaviors most relevant to the candidate
(GSU), and multi-head attention reads them beside the time that has passed since (ESU; Pi et al. 2020)::

    z_j    = [e_j, time from j to the candidate]
    head_h = sum_j softmax_j(<q W_q, z_j W_k>) z_j W_v

The search looks at every behavior that the candidate sees, the newest included.
"""

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.bias import TIME_BUCKETS, time_buckets
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.local_activation import LocalActivation
from clickscale.layers.retrieval import SearchKind
from clickscale.layers.target_attention import TargetAttention
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._search import CandidateSearch


class _TwoInterests(nn.Module):
    """See the module docstring.

    Args:
        recent: newest behaviors of the first interest. kept: K of the second.
        search: how relevance is measured. field: the item field that ``search=field`` compares.
        width: of all heads together.
        relevance_counts: the relevance of a learned search is added to the scores of attention, and so
            trained; if not, a loss of its own has to train it.

    Attributes:
        width: of the result.

    Raises:
        ConfigError: the search needs what the data set does not have.
    """

    def __init__(
        self,
        features: Features,
        items: ItemColumns,
        inputs: Inputs,
        *,
        recent: int,
        kept: int,
        search: SearchKind,
        field: str,
        width: int,
        heads: int,
        relevance_counts: bool = True,
    ) -> None:
        super().__init__()
        self.recent, self.relevance_counts = recent, relevance_counts
        self.activation = LocalActivation(inputs.width)
        self.search = CandidateSearch(features, items, inputs.item_width, search, kept, field)
        self.gap = nn.Embedding(TIME_BUCKETS, inputs.dim)
        nn.init.normal_(self.gap.weight, std=0.05)
        self.attention = TargetAttention(inputs.width, inputs.width + inputs.dim, width, heads)
        self.width = inputs.width + width

    def forward(self, state: HistoryState, own: Tensor, candidates: CandidateSide) -> Tensor:
        """Both interests (B, C, D + width) in candidates whose tokens are ``own`` (B, C, D)."""
        tokens = state.tokens.to(own.dtype)
        shown = Visibility.of(candidates, state.items, state.times)
        recent = shown.newest(self.recent).expand(-1, own.shape[1], -1)  # (B, C, L)
        newest = self.activation(own, tokens, recent) @ tokens  # (B, C, D)
        result = self.search.find(shown, own, tokens)
        found = shown.select(result.columns, result.mask)
        gap = self.gap(time_buckets(found.seconds)).to(own.dtype)  # (R, K, d)
        keys = torch.cat([take_columns(tokens, found.columns), gap], dim=-1)  # (R, K, D + d)
        # A learned search is trained by its relevance: choosing has no gradient.
        counts = self.relevance_counts and result.relevance is not None
        bias = result.relevance.flatten(0, 1) if counts and result.relevance is not None else None
        read = self.attention(own.flatten(0, 1), keys, found.row_mask, bias)  # (R, width)
        return torch.cat([newest, read.view(*own.shape[:2], -1)], dim=-1)


class InterestConfig(Config, frozen=True):
    """Options of models with two interests.

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


class TwoInterestModel(HistoryModel):
    """A model whose tower reads both interests; a subclass says how it searches, as `_TwoInterests` does."""

    def __init__(
        self,
        features: Features,
        items: ItemColumns,
        config: InterestConfig,
        length: int,
        labels: int,
        *,
        search: SearchKind,
        field: str = "",
        relevance_counts: bool = True,
    ) -> None:
        inputs = Inputs(features, items, config.d, config.numbers)
        super().__init__(inputs, length)
        self.config = config
        self.interests = _TwoInterests(
            features,
            items,
            inputs,
            recent=config.recent,
            kept=config.kept,
            search=search,
            field=field,
            width=config.heads * config.head_width,
            heads=config.heads,
            relevance_counts=relevance_counts,
        )
        self.head = head_over(inputs, self.interests.width + inputs.item_width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own = self.inputs.candidates(candidates)  # (B, C, D)
        read = [self.interests(state, own, candidates), own[..., : self.inputs.item_width]]
        context = self.inputs.context(candidates)
        return self.head.over(torch.cat(read, dim=-1), state.profile, context, candidates.mask)
