"""TWIN: Two-stage Interest Network (Chang et al., KDD 2023).

The search for relevant behaviors and the attention over them use one relevance, with the same weights, so
that the search finds what attention would have read. Relevance has an inherent part, of the item, and a part
that crosses user and item, such as the action and the time since::

    a_j    = <K_j W_h, q W_q> / sqrt(d_k) + sum_c (k_jc . w_c) b_c      # all weights per head
    head_h = sum over the K behaviors of the largest sum_h a_j:  softmax(a_j) [K_j, C_j] W_v

What depends on the behavior alone is computed once per user and request, whatever the number of candidates.

Resolutions: one selection serves all heads, by the sum of their relevance, and of equal ones the newest are
kept; padding is never found, and places that stay empty are masked; the short interest is DIN's.
"""

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.attention import split_heads
from clickscale.layers.bias import TIME_BUCKETS, time_buckets
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.local_activation import LocalActivation
from clickscale.layers.retrieval import ranked, top_behaviors
from clickscale.layers.target_attention import masked_softmax
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        recent: newest behaviors that form the short interest.
        kept: K, behaviors that the search keeps of all that the candidate sees.
        heads: of the relevance. head_width: of each.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    recent: int = 50
    kept: int = 50
    heads: int = 4
    head_width: int = 16
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "recent", "kept", "heads", "head_width")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))} | {
    "paper": ModelConfig(kept=100, head=SUAN_TOWER),
    "debug": ModelConfig(d=4, recent=4, kept=4, heads=2, head_width=4, head=DEBUG_TOWER),
}


class TWIN(HistoryModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = Inputs(features, items, config.d, config.numbers)
        super().__init__(inputs, length)
        self.config, self.scale = config, config.head_width**-0.5
        width = config.heads * config.head_width
        crossed = inputs.width - inputs.item_width  # of a behavior's own fields
        self.activation = LocalActivation(inputs.width)
        self.query = nn.Linear(inputs.item_width, width, bias=False)
        self.inherent = nn.Linear(inputs.item_width, width, bias=False)
        # A cross field becomes one number per head, and the head weighs these numbers: w_c and b_c.
        fields = crossed // config.d + 1  # the last one is the time
        self.cross = nn.Parameter(torch.randn(fields, config.d, config.heads) * config.d**-0.5)
        self.cross_weights = nn.Parameter(torch.randn(fields, config.heads) * 0.1)
        self.gap = nn.Embedding(TIME_BUCKETS, config.d)
        nn.init.normal_(self.gap.weight, std=0.05)
        self.value = nn.Linear(inputs.width + config.d, width, bias=False)
        self.head = head_over(inputs, inputs.width + width + inputs.item_width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own = self.inputs.candidates(candidates)  # (B, C, D)
        tokens = state.tokens.to(own.dtype)
        shown = Visibility.of(candidates, state.items, state.times)
        recent = shown.newest(self.config.recent).expand(-1, own.shape[1], -1)  # (B, C, L)
        newest = self.activation(own, tokens, recent) @ tokens  # (B, C, D)
        items = own[..., : self.inputs.item_width]
        read = torch.cat([newest, self._long_interest(state, tokens, items, shown), items], dim=-1)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)

    def _long_interest(self, state: HistoryState, tokens: Tensor, items: Tensor, shown: Visibility) -> Tensor:
        """(B, C, width) of what the search finds for candidates whose items are embedded (B, C, width)."""
        heads = self.config.heads
        buckets = time_buckets(shown.moment[..., None] - state.times[:, None])  # (B, C', L)
        relevance = self._relevance(tokens, items, buckets)  # (B, H, C, L)
        total = ranked(relevance.sum(dim=1))  # (B, C, L)
        columns, mask = top_behaviors(total, shown.seen, self.config.kept)
        found = shown.select(columns, mask)
        kept = relevance.gather(-1, columns[:, None].expand(-1, heads, -1, -1))  # (B, H, C, K)
        weights = masked_softmax(kept, found.mask[:, None]).transpose(1, 2).flatten(0, 1)  # (R, H, K)
        # The value is linear, so the behaviors are projected once per user and the times once per bucket.
        held = take_columns(tokens @ self.value.weight[:, : tokens.shape[-1]].T, found.columns)
        times = self.gap.weight @ self.value.weight[:, tokens.shape[-1] :].T  # (buckets, width)
        held = held + nn.functional.embedding(time_buckets(found.seconds), times)  # (R, K, width)
        read = weights[:, :, None] @ split_heads(held, heads)  # (R, H, 1, head width)
        return read.view(*items.shape[:2], -1)  # (B, C, width)

    def _relevance(self, tokens: Tensor, items: Tensor, buckets: Tensor) -> Tensor:
        """(B, H, C, L) of behaviors (B, L, D) for embedded items (B, C, item width)."""
        width, heads = self.inputs.item_width, self.config.heads
        query = split_heads(self.query(items), heads) * self.scale  # (B, H, C, head width)
        key = split_heads(self.inherent(tokens[..., :width]), heads)  # (B, H, L, head width)
        weighed = self.cross * self.cross_weights[:, None]  # (fields, d, H)
        of_action = (tokens[..., width:] @ weighed[:-1].flatten(0, 1)).transpose(1, 2)  # (B, H, L)
        of_bucket = self.gap.weight @ weighed[-1]  # (buckets, H)
        of_time = nn.functional.embedding(buckets, of_bucket).permute(0, 3, 1, 2)  # (B, H, C', L)
        return query @ key.transpose(-1, -2) + of_action[:, :, None] + of_time
