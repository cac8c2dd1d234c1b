"""BST: Behavior Sequence Transformer (Chen et al., DLP-KDD 2019).

The candidate joins the behaviors as the last token, and a transformer with post-norm blocks runs over all of
them, in both directions::

    S' = LN(S + MHA(S))
    F  = LN(S' + leaky_relu(S' W1 + b1) W2 + b2)

A token is the item's fields beside an embedding of the time from the event to the request.

Resolutions: the tower reads the candidate's row (``pool=target``), as SUAN's does, or all rows (``flatten``,
the paper's, whose tower grows with the length), or their mean.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.attention import merge_heads, split_heads
from clickscale.layers.bias import TIME_BUCKETS, time_buckets
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.visibility import SelectedBehaviors, Visibility, take_columns
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding; a token is as wide as the fields of a behavior and its time.
        blocks: of the transformer. heads: of each.
        expansion: hidden width of the feed-forward layers in units of a token's width.
        dropout: after attention and feed-forward, in training.
        pool: rows that the tower reads: the ``target``, all of them (``flatten``), or their ``mean``.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    blocks: int = 1
    heads: int = 2
    expansion: int = 4
    dropout: float = 0.0
    pool: Literal["target", "flatten", "mean"] = "target"
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads", "expansion")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must be a share of at least 0 and below 1.")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, blocks=blocks, heads=heads)
    for i, (d, blocks, heads) in enumerate(((8, 1, 2), (8, 2, 2), (16, 2, 4), (32, 4, 8), (144, 8, 8)))
} | {
    "paper": ModelConfig(blocks=2, heads=2, head=SUAN_TOWER),
    "debug": ModelConfig(d=4, heads=1, expansion=1, head=DEBUG_TOWER),
}


class _Block(nn.Module):
    """One block over rows of tokens (R, N, W); ``only_last`` computes the last token alone."""

    def __init__(self, width: int, config: ModelConfig, *, only_last: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.only_last = config.heads, config.dropout, only_last
        hidden = config.expansion * width
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens (R, N, W), of which those in the mask (R, N) are attended to."""
        own = x[:, -1:] if self.only_last else x  # (R, n, W)
        key, value = (split_heads(part, self.heads) for part in self.key_value(x).chunk(2, dim=-1))
        query = split_heads(self.query(own), self.heads)  # (R, H, n, W / H)
        seen = functional.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        own = self.norms[0](own + self._dropped(self.out(merge_heads(seen))))
        fed: Tensor = self.norms[1](own + self._dropped(self.leave(functional.leaky_relu(self.enter(own)))))
        return fed

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class BST(HistoryModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = Inputs(features, items, config.d, config.numbers)
        super().__init__(inputs, length)
        self.config = config
        width = inputs.width + config.d
        if width % config.heads:
            raise ConfigError(
                f"A token is {width} wide (fields of a behavior and its time, times d={config.d}), which"
                f" heads={config.heads} does not divide; change either."
            )
        self.gap = nn.Embedding(TIME_BUCKETS, config.d)
        nn.init.normal_(self.gap.weight, std=0.05)
        only = config.pool == "target"
        self.blocks = nn.ModuleList(
            _Block(width, config, only_last=only and index == config.blocks - 1)
            for index in range(config.blocks)
        )
        read = width * (length + 1) if config.pool == "flatten" else width
        self.head = head_over(inputs, read, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own = self.inputs.candidates(candidates)  # (B, C, D)
        shown = Visibility.of(candidates, state.items, state.times).window(self.length)
        x, mask = self._sequence(state.tokens.to(own.dtype), own, shown)
        for block in self.blocks:
            x = block(x, mask)
        read = self._pooled(x, mask).view(*own.shape[:2], -1)  # (B, C, W or N W)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)

    def _sequence(self, tokens: Tensor, own: Tensor, shown: SelectedBehaviors) -> tuple[Tensor, Tensor]:
        """Tokens (R, K + 1, W), the candidate last, and which of them are there."""
        behaviors = take_columns(tokens, shown.columns) * shown.row_mask[..., None]  # (R, K, D)
        rows = torch.cat([behaviors, own.flatten(0, 1)[:, None]], dim=1)  # (R, K + 1, D)
        seconds = functional.pad(shown.seconds * shown.row_mask, (0, 1))  # (R, K + 1)
        mask = functional.pad(shown.row_mask, (0, 1), value=True)  # (R, K + 1)
        gap = self.gap(time_buckets(seconds)).to(rows.dtype) * mask[..., None]
        return torch.cat([rows, gap], dim=-1), mask

    def _pooled(self, x: Tensor, mask: Tensor) -> Tensor:
        """(R, N, W) -> (R, W), or (R, (length + 1) W)."""
        if self.config.pool == "target":
            return x[:, -1]
        x = x * mask[..., None]
        if self.config.pool == "mean":
            return x.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return functional.pad(x, (0, 0, self.length + 1 - x.shape[1], 0)).flatten(1)
