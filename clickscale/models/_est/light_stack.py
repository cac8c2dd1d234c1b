"""The stack of EST's blocks: behaviors once per user where possible, tokens once per candidate.

    sequences = [recent, retrieved]                 # keys and values of every block, made first
    for block in blocks:                            # tokens read behaviors, behaviors never read tokens
        tokens = block.tokens(tokens, [sequence.blocks[block] for sequence in sequences])
    return tokens, mean of the last rows of both sequences

Since behaviors never read tokens, a sequence goes through all blocks before the first token does. What it
depends on decides how often that is computed:

* recent behaviors do not know the candidate: once per user, and kept in the state;
* retrieved behaviors without content attention do not either, only which of them a candidate sees differs:
  all L once per user, then every candidate reads those that were retrieved for it;
* with content attention a retrieved behavior gathers from the others that were retrieved for the same
  candidate, so its rows differ by candidate after the first block; what precedes is computed once per user.

`clickscale.models._est.retrieved_rows` has the two ways of retrieved behaviors.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clickscale.layers.bias import AttentionBias
from clickscale.layers.pooling import running_sum, sum_between
from clickscale.layers.retrieval import ContentTable
from clickscale.layers.visibility import SelectedBehaviors, Visibility, first_column
from clickscale.models._est.content_attention import NeighborRule, Neighbors, nearest_neighbors
from clickscale.models._est.cross_attention import LOW, BehaviorSequence, KeyValues, LightBlock
from clickscale.models._est.est_inputs import Timeline
from clickscale.models._est.retrieved_rows import (
    RowReader,
    neighbors_among_retrieved,
    through_blocks_each,
    through_blocks_once,
)

PerBlock = tuple[Tensor, ...]


class _EncodedBehaviors(NamedTuple):
    """The newest M behaviors after all blocks.

    Attributes:
        keys, values: per block (B, H, M, D / H).
        rows: per block (B, M, D) after ``row_norm``, which appended behaviors gather. Empty if there is no
            content attention, or if it is not causal, so that nothing can be appended.
        sums: (B, M + 1, D) running sums of the last block's rows.
    """

    keys: PerBlock
    values: PerBlock
    rows: PerBlock
    sums: Tensor


@dataclass(frozen=True)
class TimelineState(Timeline):
    """A timeline and its recent behaviors after all blocks, see `_EncodedBehaviors`."""

    GROWS = {**Timeline.GROWS, "keys": 2, "values": 2, "rows": 1, "sums": 1}

    keys: PerBlock
    values: PerBlock
    rows: PerBlock
    sums: Tensor

    @classmethod
    def of(cls, timeline: Timeline, encoded: _EncodedBehaviors) -> "TimelineState":
        """State of a timeline whose newest behaviors were encoded."""
        return cls(timeline.items, timeline.times, timeline.behaviors, timeline.profile, *encoded)

    @property
    def encoded_length(self) -> int:
        """M, behaviors that have gone through the blocks."""
        return self.sums.shape[1] - 1

    def newest(self, count: int) -> "TimelineState":
        """The state for scoring only: of what the blocks computed, the newest ``count`` columns."""
        first = max(self.encoded_length - count, 0)
        return replace(
            self,
            # Copies: a slice would keep the memory of all columns alive.
            keys=tuple(key[:, :, first:].clone() for key in self.keys),
            values=tuple(value[:, :, first:].clone() for value in self.values),
            rows=(),
            sums=self.sums[:, first:] - self.sums[:, first : first + 1],
        )


class LightStack(nn.Module):
    """Blocks, the bias by time and distance that they share, and the rule of content attention.

    Args:
        tokens: N. width: D. hidden: of the feed-forwards of tokens and of behaviors.
        bias: of one block, which all use.
        recent: number of recent behaviors at most.
        rule: of content attention over recent behaviors; None for no content attention. Over retrieved ones
            it is the same but never causal: all of them are visible to the candidate that they belong to.
        table: content of items; needed with a rule.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        blocks: int,
        hidden: tuple[int, int],
        *,
        bias: AttentionBias,
        recent: int,
        rule: NeighborRule | None,
        table: ContentTable | None,
    ) -> None:
        super().__init__()
        self.bias, self.recent, self.rule, self.table = bias, recent, rule, table
        self.causal = rule is None or rule.causal
        self.blocks = nn.ModuleList(LightBlock(tokens, width, heads, *hidden) for _ in range(blocks))

    def typed_blocks(self) -> list[LightBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, LightBlock)]

    def forward(self, tokens: Tensor, sequences: tuple[BehaviorSequence, ...]) -> tuple[Tensor, Tensor]:
        """Tokens (N, R, D) through all blocks, and the mean (R, D) of the last rows of all sequences."""
        count = torch.stack([sequence.count for sequence in sequences]).sum(dim=0)  # (R, 1)
        for index, block in enumerate(self.typed_blocks()):
            read = tuple(sequence.blocks[index] for sequence in sequences)
            tokens = block.tokens(tokens, read, count > 0)
        total = torch.stack([sequence.total for sequence in sequences]).sum(dim=0)  # (R, D)
        return tokens, total / count.clamp(min=1)

    # --- recent behaviors

    def encode(self, x: Tensor, items: Tensor, earlier: TimelineState | None = None) -> _EncodedBehaviors:
        """Recent behaviors through all blocks.

        Args:
            x: (G, M, D) rows to compute, after P earlier ones.
            items: (G, P + M), 0 where there is no behavior.
            earlier: the state of the P earlier ones.

        Returns:
            All P + M behaviors.
        """
        past = items.shape[1] - x.shape[1]
        mask = items[:, past:] > 0
        neighbors = self._neighbors(items, past)
        keys, values, rows = [], [], []
        for index, block in enumerate(self.typed_blocks()):
            normalized = block.row_norm(x)  # (G, M, D)
            key, value = block.attention.keys_values(normalized)
            if earlier is not None:
                key, value = _append(earlier.keys[index], key, 2), _append(earlier.values[index], value, 2)
                if earlier.rows:
                    normalized = _append(earlier.rows[index], normalized, 1)  # (G, P + M, D)
            keys.append(key)
            values.append(value)
            rows.append(normalized)
            x = block.behaviors(x, normalized, neighbors)
        seen = x * mask[..., None]  # padding adds nothing to the sums
        if earlier is None:
            sums = running_sum(seen)
        else:
            sums = _append(earlier.sums[:, :-1], running_sum(seen, earlier.sums[:, -1:].to(x.dtype)), 1)
        appendable = self.rule is not None and self.causal
        return _EncodedBehaviors(tuple(keys), tuple(values), tuple(rows) if appendable else (), sums)

    def _neighbors(self, items: Tensor, first: int) -> Neighbors | None:
        """Neighbors of the recent behaviors ``first`` and later."""
        if self.rule is None or self.table is None:
            return None
        return nearest_neighbors(self.table(items), self.table.known[items], self.rule, first)

    def recent_of_state(
        self, state: TimelineState, visibility: Visibility, recent: Tensor
    ) -> BehaviorSequence | None:
        """Recent behaviors from the state; None if the state does not hold what some candidate sees.

        Args:
            recent: (B, C', L) bool, the recent behaviors that each candidate sees.
        """
        held = state.encoded_length
        skipped = recent.shape[2] - held  # columns of the timeline left of those that the state holds
        inside = recent[..., skipped:]  # (B, C', M)
        if bool(recent[..., :skipped].any()):
            return None
        # Without causality each row has gathered from all columns, so a candidate must see all of them.
        there = (visibility.items > 0)[:, None, skipped:]  # (B, 1, M)
        if not self.causal and not bool((inside == there).all()):
            return None
        start = first_column(inside)  # columns that no candidate sees need no logits
        column = torch.arange(skipped + start, recent.shape[2], device=recent.device)
        seconds = visibility.moment[..., None] - visibility.times[:, None, skipped + start :]  # (B, C', M)
        bias = self.time_bias(seconds, visibility.visible[..., None] - column, inside[..., start:])
        # The rows that a candidate sees are neighbors in the timeline: their sum is a difference of two sums.
        oldest = torch.maximum(visibility.oldest, visibility.visible - self.recent)
        bounds = [(bound - skipped).clamp(0, held) for bound in (oldest, visibility.visible)]
        total = sum_between(state.sums, *bounds)  # (B, C', D)
        candidates = visibility.candidates.items.shape[1]
        return BehaviorSequence(
            tuple(
                KeyValues(key[:, :, start:], value[:, :, start:], bias)
                for key, value in zip(state.keys, state.values, strict=True)
            ),
            total.expand(-1, candidates, -1).flatten(0, 1),  # (R, D)
            inside.sum(dim=-1).expand(-1, candidates).reshape(-1, 1),  # (R, 1)
        )

    def recent_of_each(self, x: Tensor, selected: SelectedBehaviors) -> BehaviorSequence:
        """Recent behaviors (R, W, D) of every candidate, encoded for each candidate separately."""
        encoded = self.encode(x, selected.items)
        bias = self._selected_bias(selected)
        return BehaviorSequence(
            tuple(KeyValues(k, v, bias) for k, v in zip(encoded.keys, encoded.values, strict=True)),
            encoded.sums[:, -1],  # (R, D)
            selected.row_mask.sum(dim=1, keepdim=True),
        )

    # --- retrieved behaviors

    def retrieved(
        self, x: Tensor, items: Tensor, selected: SelectedBehaviors, relevance: Tensor | None
    ) -> BehaviorSequence:
        """Retrieved behaviors of every candidate.

        Args:
            x: (B, L, D) rows of the whole timeline. items: (B, L).
            selected: those that were retrieved.
            relevance: (B, C, K) of a learned search. It is added to the logits, which trains the search.
        """
        bias = self._selected_bias(selected)
        if relevance is not None:
            bias = bias + relevance.view(bias.shape)  # (R, 1, 1, K)
        reader = RowReader.of(selected, bias, x.shape[1])
        if self.rule is None or self.table is None:
            return through_blocks_once(self.typed_blocks(), x, reader)
        rule = replace(self.rule, causal=False)
        neighbors = neighbors_among_retrieved(self.table, items, selected, rule)
        return through_blocks_each(self.typed_blocks(), x, reader, neighbors)

    # --- the bias by time and distance

    def _selected_bias(self, selected: SelectedBehaviors) -> Tensor:
        """(R, 1, 1, K)."""
        seconds, distance = selected.seconds[:, None], selected.distance[:, None]  # (R, 1, K)
        return self.time_bias(seconds, distance, selected.row_mask[:, None])

    def time_bias(self, seconds: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
        """Bias (B, 1, C, M) of candidates towards behaviors, `LOW` where they are not seen.

        Args:
            seconds, distance: (B, C, M) between candidate and behavior. seen: (B, C, M) bool.
        """
        return self.bias(seconds, distance, seen)[0].clamp(min=LOW)


def _append(earlier: Tensor, new: Tensor, axis: int) -> Tensor:
    """Earlier columns, perhaps kept in half precision, and new ones."""
    return torch.cat([earlier.to(new.dtype), new], dim=axis)
