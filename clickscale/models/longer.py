"""LONGER: Long-sequence Optimized Transformer (Chai et al., RecSys 2025).

Every K neighboring behaviors are merged into one token, from the newest backwards. Behind the history stand
global tokens: one of the profile, one learned, and the candidate. In the first layer only the newest merged
tokens and the global ones ask, and all of the history answers; later layers run over those that asked::

    x' = x + attention(RMS(x))            # a token sees earlier tokens and itself
    y  = x' + W2 gelu(W1 RMS(x'))

The tower reads the candidate's row. History and user tokens do not depend on the candidate, so they are
computed once for all candidates that see the same behaviors, and a candidate is one row per layer.

With ``inner=true``, a small transformer block runs inside each group before its behaviors are merged; there
they see each other in both directions, as they are one token afterwards.

Resolutions: the order is history, user tokens, candidate, so that one causal mask serves all and only the
candidate's row depends on it; the time from an event to the request enters its token.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.attention import merge_heads, plain_attend_with_itself, split_heads
from clickscale.layers.bias import TIME_BUCKETS, time_buckets
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.norm import RMSNorm
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._papers import EST_TOWER
from clickscale.models._sizes import DEBUG_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a merged token.
        blocks: layers. heads: of each.
        merge: K, behaviors that become one token.
        inner: let the behaviors of a group see each other before they are merged.
        recent: merged tokens that ask in the first layer.
        expansion: hidden width of the feed-forward layers in units of D.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    width: int = 64
    blocks: int = 2
    heads: int = 2
    merge: int = 4
    inner: bool = False
    recent: int = 16
    expansion: int = 4
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads", "merge", "recent", "expansion")
        if self.width % self.heads:
            raise ConfigError(f"width is {self.width}, which heads={self.heads} does not divide.")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, width=8 * d, blocks=blocks, heads=heads)
    for i, (d, blocks, heads) in enumerate(((8, 1, 2), (8, 2, 2), (16, 3, 4), (32, 4, 4), (144, 8, 8)))
} | {
    "paper": ModelConfig(d=16, width=128, blocks=6, heads=4, merge=4, inner=True, recent=100, head=EST_TOWER),
    "debug": ModelConfig(d=4, width=8, blocks=1, heads=1, merge=2, recent=2, expansion=1, head=DEBUG_TOWER),
}


class _Block(nn.Module):
    """One layer. Rows that ask (R, n, D) see rows that answer (R, N, D), of which they are the last n."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (R, H, N, D / H) of rows (R, N, D)."""
        query, key, value = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        return tuple(split_heads(part, self.heads) for part in (query, key, value))  # type: ignore[return-value]

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """Rows (R, n, D) and what they read (R, H, n, D / H) -> rows."""
        x = x + self.out(merge_heads(seen))
        fed: Tensor = self.leave(functional.gelu(self.enter(self.norms[1](x))))
        return x + fed


class LONGER(HistoryModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = Inputs(features, items, config.d, config.numbers)
        super().__init__(inputs, length)
        self.config, width = config, config.width
        self.gap = nn.Embedding(TIME_BUCKETS, config.d)
        nn.init.normal_(self.gap.weight, std=0.05)
        self.groups = -(-length // config.merge)  # merged tokens, rounded up
        self.position = nn.Parameter(torch.randn(self.groups, width) * 0.02)  # the newest is the last
        entered = inputs.width + config.d
        # One head: few behaviors stand in a group, and any width allows it.
        self.inner = _Block(entered, 1, config.expansion * entered) if config.inner else None
        self.merged = nn.Linear(config.merge * entered, width)
        self.user = nn.Linear(max(inputs.profile_tokens, 1) * config.d, width)
        self.learned = nn.Parameter(torch.randn(width) * 0.05)
        self.candidate = nn.Linear(inputs.item_width + inputs.context_tokens * config.d, width)
        hidden = config.expansion * width
        self.blocks = nn.ModuleList(_Block(width, config.heads, hidden) for _ in range(config.blocks))
        self.last = RMSNorm(width)
        self.head = head_over(inputs, width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        items, context = self.inputs.candidate_items(candidates), self.inputs.context(candidates)
        x = self.candidate(torch.cat([items, context], dim=-1))  # (B, C, D)
        shown = Visibility.of(candidates, state.items, state.times)
        history, there = self._history(state, shown, items.dtype)  # (V, N, D), V = B * C'
        # Candidates that see the same behaviors are scored side by side.
        rows = x.view(len(history), -1, x.shape[-1])  # (V, C / C', D)
        asking, first = history, max(history.shape[1] - self.config.recent - 2, 0)
        for index, block in enumerate(self._each()):
            query, key, value = block.project(asking)
            seen = there[:, -asking.shape[1] :]
            rows = self._candidates(block, rows, key, value, seen)
            if index < len(self.blocks) - 1:
                begin = first if index == 0 else 0
                asking = block.finish(
                    asking[:, begin:], self._seen(block, query[:, :, begin:], key, value, seen)
                )
        read = self.last(rows).view(x.shape)  # (B, C, D)
        return self.head.over(read, state.profile, context, candidates.mask)

    def _each(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]

    def _history(self, state: HistoryState, shown: Visibility, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Tokens (V, groups + 2, D) of merged behaviors and of the user, and which of them are there."""
        size, merge = shown.visible.numel(), self.config.merge
        back = torch.arange(-self.groups * merge, 0, device=state.items.device)  # (G K,)
        column = shown.visible[..., None] + back  # (B, C', G K)
        there = column >= shown.oldest[..., None].clamp(min=0)
        column = column.clamp(min=0, max=max(state.items.shape[1] - 1, 0))
        there = there.flatten(0, 1) & (take_columns(state.items, column) > 0)  # (V, G K)
        tokens = take_columns(state.tokens.to(dtype), column)  # (V, G K, D)
        seconds = shown.moment.flatten()[:, None] - take_columns(state.times, column)
        gap = self.gap(time_buckets(seconds * there)).to(dtype)
        tokens = torch.cat([tokens, gap], dim=-1) * there[..., None]
        if self.inner is not None:
            tokens = self._within_groups(self.inner, tokens, there)
        groups = tokens.view(size, self.groups, -1)  # (V, G, K (D + d))
        merged = self.merged(groups) + self.position
        profile = state.profile.to(dtype).flatten(1)  # (B, n2 d)
        profile = functional.pad(profile, (0, self.user.in_features - profile.shape[1]))
        user = self.user(profile)[:, None].expand(-1, shown.visible.shape[1], -1).flatten(0, 1)  # (V, D)
        ends = torch.stack([user, self.learned.expand_as(user)], dim=1)  # (V, 2, D)
        held = there.view(size, self.groups, merge).any(dim=-1)  # (V, G)
        return torch.cat([merged, ends], dim=1), functional.pad(held, (0, 2), value=True)

    def _within_groups(self, block: _Block, tokens: Tensor, there: Tensor) -> Tensor:
        """Behaviors (V, G K, W) after a block over each group of K; zeros where there is none."""
        rows = tokens.view(-1, self.config.merge, tokens.shape[-1])  # (V G, K, W)
        held = there.view(-1, 1, self.config.merge)  # (V G, 1, K)
        itself = torch.eye(self.config.merge, dtype=torch.bool, device=rows.device)
        query, key, value = block.project(rows)
        allowed = (held | itself)[:, None]  # (V G, 1, K, K)
        seen = functional.scaled_dot_product_attention(query, key, value, allowed, scale=block.scale)
        return block.finish(rows, seen).view(tokens.shape) * there[..., None]  # (V, G K, W)

    @staticmethod
    def _seen(block: _Block, query: Tensor, key: Tensor, value: Tensor, there: Tensor) -> Tensor:
        """Causal attention of the last rows: (V, H, n, D / H)."""
        column = torch.arange(key.shape[2], device=key.device)
        own = column[-query.shape[2] :]
        # A row that is not there sees itself, so that no row is empty.
        allowed = (column <= own[:, None]) & (there[:, None] | (column == own[:, None]))  # (V, n, N)
        return functional.scaled_dot_product_attention(query, key, value, allowed[:, None], scale=block.scale)

    @staticmethod
    def _candidates(block: _Block, rows: Tensor, key: Tensor, value: Tensor, there: Tensor) -> Tensor:
        """Candidates (V, C', D) over the rows before them and themselves."""
        query, own_key, own_value = block.project(rows)
        bias = torch.zeros(there.shape, device=rows.device).masked_fill(~there, -torch.inf)[:, None, None]
        own = torch.zeros(1, device=rows.device)
        seen = plain_attend_with_itself(query, key, value, own_key, own_value, bias, own, block.scale)
        return block.finish(rows, seen)
