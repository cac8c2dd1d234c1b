"""Retrieved behaviors through the blocks of EST: rows that do not depend on the candidate are computed once.

The plain form computes everything for every candidate. With ``own`` (R, K, D), the rows that were retrieved
for each:

    for block in blocks:
        normalized = block.row_norm(own)                          # (R, K, D)
        read by tokens: keys and values of normalized
        own += gather_neighbors(normalized, neighbors)            # only with content attention
        own += block.row_ffn(block.row_ffn_norm(own))
    total = sum of the rows of own that are real

But candidates of one user retrieve from one timeline. Without content attention its rows are the same for all
of them, so each of the L rows goes through the blocks once (`through_blocks_once`); 60 candidates with 50
behaviors each would compute 3,000. With content attention, rows are the same until they first gather
(`through_blocks_each`). The numbers are those of the plain form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.layers.retrieval import ContentTable, dots
from clickscale.layers.visibility import SelectedBehaviors, take_columns
from clickscale.models._est.content_attention import NeighborRule, Neighbors, nearest_neighbors, nearest_of
from clickscale.models._est.cross_attention import (
    LOW,
    BehaviorSequence,
    CrossAttention,
    KeyValues,
    LightBlock,
)

# Up to so many behaviors of the timeline for one that is retrieved, a product with all of them, of which the
# others are hidden, is faster than a copy of the retrieved ones for every candidate.
_DENSE = 4


@dataclass(frozen=True)
class RowReader:
    """Reads, for each candidate, its retrieved behaviors out of rows of the whole timeline.

    Either every candidate has a copy of its K rows, or all candidates of a user read all L rows and the bias
    hides those that were not retrieved. Both give the same numbers.

    Attributes:
        bias: (R, 1, 1, K).
        wide: (B, 1, C, L), `LOW` where a behavior was not retrieved; None if rows are copied.
    """

    selected: SelectedBehaviors
    bias: Tensor
    wide: Tensor | None

    @classmethod
    def of(cls, selected: SelectedBehaviors, bias: Tensor, length: int) -> "RowReader":
        """The faster way for a timeline of ``length`` behaviors."""
        if length > _DENSE * selected.columns.shape[2]:
            return cls(selected, bias, None)
        wide = _spread(bias.view(selected.columns.shape), selected, length, LOW)  # (B, C, L)
        return cls(selected, bias, wide[:, None])  # wide (B, 1, C, L)

    @property
    def count(self) -> Tensor:
        """(R, 1): behaviors that were retrieved."""
        return self.selected.row_mask.sum(dim=1, keepdim=True)

    def key_values(self, attention: CrossAttention, normalized: Tensor) -> KeyValues:
        """Keys and values, for the tokens, of normalized rows (B, L, D) of the timeline."""
        if self.wide is not None:
            return KeyValues(*attention.keys_values(normalized), self.wide)
        projected = take_columns(attention.key_value(normalized), self.selected.columns)  # (R, K, 2 D)
        return KeyValues(*attention.split(projected), self.bias)

    def total(self, rows: Tensor) -> Tensor:
        """Sum (R, D) of the retrieved ones of the rows (B, L, D)."""
        if self.wide is None:
            return self.total_of_own(take_columns(rows, self.selected.columns))
        retrieved = _spread(self.selected.mask.to(rows.dtype), self.selected, rows.shape[1], 0.0)
        return (retrieved @ rows).flatten(0, 1)  # (B, C, L) @ (B, L, D) -> (R, D)

    def total_of_own(self, own: Tensor) -> Tensor:
        """Sum (R, D) of the rows (R, K, D) of each candidate that are behaviors."""
        return (own * self.selected.row_mask[..., None]).sum(dim=1)  # (R, D)


def through_blocks_once(blocks: list[LightBlock], x: Tensor, reader: RowReader) -> BehaviorSequence:
    """Rows (B, L, D) of the timeline through all blocks once, which holds without content attention."""
    read = []
    for block in blocks:
        normalized = block.row_norm(x)
        read.append(reader.key_values(block.attention, normalized))
        x = block.behaviors(x, normalized, None)
    return BehaviorSequence(tuple(read), reader.total(x), reader.count)


def through_blocks_each(
    blocks: list[LightBlock], x: Tensor, reader: RowReader, neighbors: Neighbors
) -> BehaviorSequence:
    """Content attention: the first block from the timeline, the others for each candidate.

    Args:
        x: (B, L, D) rows of the timeline.
        neighbors: of the K retrieved behaviors of each candidate among themselves: columns below K.
    """
    selected = reader.selected
    batch, candidates, kept = selected.columns.shape
    first, *rest = blocks
    normalized = first.row_norm(x)  # (B, L, D)
    read = [reader.key_values(first.attention, normalized)]
    # The first block gathers from the timeline, so its neighbors are columns of the timeline.
    columns = selected.columns.flatten(0, 1).gather(1, neighbors.columns.flatten(1))  # (R, K * neighbors)
    shape = (batch, candidates * kept, neighbors.columns.shape[2])
    of_timeline = Neighbors(columns.view(shape), neighbors.weights.view(shape))
    own = take_columns(x, selected.columns)  # (R, K, D)
    by_user = own.view(batch, candidates * kept, x.shape[2])  # (B, C * K, D)
    own = first.behaviors(by_user, normalized, of_timeline).view(own.shape)  # (R, K, D)
    for block in rest:
        normalized = block.row_norm(own)
        read.append(KeyValues(*block.attention.keys_values(normalized), reader.bias))
        own = block.behaviors(own, normalized, neighbors)
    return BehaviorSequence(tuple(read), reader.total_of_own(own), reader.count)


def neighbors_among_retrieved(
    table: ContentTable, items: Tensor, selected: SelectedBehaviors, rule: NeighborRule
) -> Neighbors:
    """Neighbors of the retrieved behaviors among those of the same candidate: columns below K.

    Args:
        items: (B, L) of the timeline.
        rule: not causal.
    """
    length, (_, candidates, kept) = items.shape[1], selected.columns.shape
    known = table.known[selected.items]  # (R, K)
    if length**2 > candidates * kept**2:  # the timeline has more pairs than all candidates together
        return nearest_neighbors(table(selected.items), known, rule)
    # Cosines of each pair of the timeline once, then every candidate takes those of its own pairs. Products
    # of whole numbers are exact, so both ways find the same neighbors.
    vectors = table(items)
    cosine = dots(vectors, vectors).flatten(1)  # (B, L * L)
    pair = selected.columns[..., :, None] * length + selected.columns[..., None, :]  # (B, C, K, K)
    own = cosine.gather(1, pair.flatten(1)).view(len(known), kept, kept)  # (R, K, K)
    return nearest_of(own, known[:, :, None] & known[:, None], rule)


def _spread(values: Tensor, selected: SelectedBehaviors, length: int, fill: float) -> Tensor:
    """Values (B, C, K) of selected behaviors at their columns of the timeline: (B, C, L)."""
    # Places without a behavior hold an arbitrary column. They write to an extra one in front instead.
    columns = torch.where(selected.mask, selected.columns + 1, 0)
    empty = values.new_full((*columns.shape[:2], length + 1), fill)
    return empty.scatter(2, columns, values)[..., 1:]
