"""The stack of lightweight cross-attention: recent behaviors once per user, tokens once per candidate."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from clickscale.layers.bias import AttentionBias
from clickscale.layers.pooling import running_sum, sum_between
from clickscale.layers.retrieval import ContentTable
from clickscale.layers.visibility import Picked, Sight, first_column, take_columns
from clickscale.models._est.content_attention import Neighbors, Reach, nearest
from clickscale.models._est.cross_attention import LOW, Half, LightBlock
from clickscale.state import State

PerBlock = tuple[Tensor, ...]


@dataclass(frozen=True)
class TimelineState(State):
    """What candidates need of a timeline of L behaviors; the newest M of them have gone through the blocks.

    Attributes:
        items, times: (B, L); whatever is looked up by item is not copied into the state.
        behaviors: (B, L, W) embedded fields.
        profile: (B, n, D) tokens.
        keys, values: per block (B, H, M, D / H).
        rows: per block (B, M, D) normalized, where appended behaviors may gather them; of full attention the
            first block's rows and projections (B, L, D), (B, L, 3 D).
        sums: (B, M + 1, D) running sums of the last block's rows.
    """

    GROWS = {"items": 1, "times": 1, "behaviors": 1, "keys": 2, "values": 2, "rows": 1, "sums": 1}

    items: Tensor
    times: Tensor
    behaviors: Tensor
    profile: Tensor
    keys: PerBlock
    values: PerBlock
    rows: PerBlock
    sums: Tensor

    def newest(self, count: int) -> "TimelineState":
        """For scoring alone: of what the blocks computed only the newest ``count`` columns."""
        first = max(self.sums.shape[1] - 1 - count, 0)
        return replace(
            self,
            keys=tuple(key[:, :, first:].clone() for key in self.keys),
            values=tuple(value[:, :, first:].clone() for value in self.values),
            rows=(),
            sums=self.sums[:, first:] - self.sums[:, first : first + 1],
        )


@dataclass(frozen=True)
class Recent:
    """B_u: the user's recent behaviors, of G groups of rows (users, or rows themselves).

    Attributes:
        keys, values: per block (G, H, M, D / H).
        bias: (G, 1, R / G or 1, M) additive, `LOW` where not seen.
        total: (R, D) sum of the last block's rows that each row sees; count: (R, 1), how many.
    """

    keys: PerBlock
    values: PerBlock
    bias: Tensor
    total: Tensor
    count: Tensor

    def half(self, block: int) -> Half:
        """What one block reads."""
        return Half(self.keys[block], self.values[block], self.bias)


@dataclass(frozen=True)
class Kept:
    """B_c: the behaviors retrieved for each row.

    Attributes:
        rows: (R, K, D). mask: (R, K) bool.
        bias: (R, 1, 1, K) additive, `LOW` where not filled.
        neighbors: what each of them gathers by content, or None.
    """

    rows: Tensor
    mask: Tensor
    bias: Tensor
    neighbors: Neighbors | None


class LightStack(nn.Module):
    """Blocks, the bias by time and distance that they share, and content attention's reach.

    Args:
        tokens: N. width: D. hidden: of the feed-forwards of tokens and of behaviors.
        bias: of one block, which all use.
        recent: behaviors in B_u at most.
        reach: of content attention over recent behaviors; None for none. Over retrieved ones it is the same,
            but never causal: they belong to a candidate, to which all of them are visible.
        table: content of items, where there is a reach.
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
        reach: Reach | None,
        table: ContentTable | None,
    ) -> None:
        super().__init__()
        self.bias, self.recent, self.reach, self.table = bias, recent, reach, table
        self.causal = reach is None or reach.causal
        self.blocks = nn.ModuleList(LightBlock(tokens, width, heads, *hidden) for _ in range(blocks))

    def each(self) -> list[LightBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, LightBlock)]

    # --- behaviors

    def encode(
        self, x: Tensor, items: Tensor, earlier: TimelineState | None = None
    ) -> tuple[PerBlock, PerBlock, PerBlock, Tensor]:
        """Behaviors through all blocks.

        Args:
            x: (G, M, D) rows to compute, after P earlier ones.
            items: (G, P + M), 0 where there is no behavior.

        Returns:
            Keys, values, rows and sums as `TimelineState` holds them, of all P + M.
        """
        past = items.shape[1] - x.shape[1]
        mask = items[:, past:] > 0
        neighbors = self._neighbors(items, self.reach, past)
        keys, values, rows = [], [], []
        for number, block in enumerate(self.each()):
            before = earlier.rows[number] if earlier and earlier.rows else None
            x, known = block.behaviors(x, neighbors, before)
            key, value = block.attention.keys_values(known[:, known.shape[1] - x.shape[1] :])
            keys.append(_after(earlier.keys[number] if earlier else None, key, 2))
            values.append(_after(earlier.values[number] if earlier else None, value, 2))
            rows.append(known)
        begin = earlier.sums[:, -1:].to(x.dtype) if earlier else None
        sums = running_sum(x * mask[..., None], begin)
        kept = tuple(rows) if self.reach and self.causal else ()
        return tuple(keys), tuple(values), kept, _after(earlier.sums[:, :-1] if earlier else None, sums, 1)

    def _neighbors(self, items: Tensor, reach: Reach | None, first: int) -> Neighbors | None:
        if reach is None or self.table is None:
            return None
        return nearest(self.table(items), self.table.known[items], reach, first)

    # --- what a candidate sees of them

    def shared(self, state: TimelineState, sight: Sight, recent: Tensor) -> Recent | None:
        """B_u from the state, or None where what the state holds is not what the candidates see.

        Args:
            recent: (B, C or 1, L) bool, the recent behaviors that each candidate sees.
        """
        held = state.sums.shape[1] - 1
        skipped = recent.shape[2] - held
        inside = recent[..., skipped:]
        whole = self.causal or bool((inside == (sight.items > 0)[:, None, skipped:]).all())
        if not whole or bool(recent[..., :skipped].any()):
            return None
        start = first_column(inside)
        column = torch.arange(skipped + start, recent.shape[2], device=recent.device)
        seconds = sight.moment[..., None] - sight.times[:, None, skipped + start :]
        bias = self.time_bias(seconds, sight.visible[..., None] - column, inside[..., start:])
        low = torch.maximum(sight.oldest, sight.visible - self.recent)
        bounds = [(bound - skipped).clamp(0, held) for bound in (low, sight.visible)]
        total = sum_between(state.sums, *bounds)
        count = sight.candidates.items.shape[1]
        return Recent(
            tuple(key[:, :, start:] for key in state.keys),
            tuple(value[:, :, start:] for value in state.values),
            bias,
            total.expand(-1, count, -1).flatten(0, 1),
            inside.sum(dim=-1).expand(-1, count).reshape(-1, 1),
        )

    def alone(self, x: Tensor, picked: Picked) -> Recent:
        """B_u of every candidate by itself: tokens (R, W, D) of the last W behaviors before it."""
        keys, values, _, sums = self.encode(x, picked.items)
        bias = self._picked_bias(picked)
        return Recent(keys, values, bias, sums[:, -1], picked.mask.sum(dim=1, keepdim=True))

    def kept(self, rows: Tensor, picked: Picked, relevance: Tensor | None) -> Kept:
        """B_c, picked for each candidate from the tokens (B, L, D) of the whole timeline.

        Learned relevance (B, C, K) is added to the logits, which is what trains the search.
        """
        bias = self._picked_bias(picked)
        if relevance is not None:
            bias = bias + relevance.view(bias.shape)
        reach = replace(self.reach, causal=False) if self.reach else None
        return Kept(
            take_columns(rows, picked.columns), picked.mask, bias, self._neighbors(picked.items, reach, 0)
        )

    def _picked_bias(self, picked: Picked) -> Tensor:
        """(R, 1, 1, K)."""
        return self.time_bias(picked.seconds[:, None], picked.distance[:, None], picked.mask[:, None])

    def time_bias(self, seconds: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
        """(B, 1, C, M) bias of candidates towards behaviors, from differences of time and place (B, C, M)."""
        return self.bias(seconds, distance, seen)[0].clamp(min=LOW)

    def forward(self, tokens: Tensor, recent: Recent, kept: Kept | None) -> tuple[Tensor, Tensor]:
        """Tokens (N, R, D) through all blocks, and the mean (R, D) of the last rows of both sequences."""
        if kept is None:
            for number, block in enumerate(self.each()):
                tokens = block.tokens(tokens, (recent.half(number),), recent.count > 0)
            return tokens, recent.total / recent.count.clamp(min=1)
        count = recent.count + kept.mask.sum(dim=1, keepdim=True)
        rows = kept.rows
        for number, block in enumerate(self.each()):
            rows, entered = block.behaviors(rows, kept.neighbors)
            own = Half(*block.attention.keys_values(entered), kept.bias)
            tokens = block.tokens(tokens, (recent.half(number), own), count > 0)
        total = recent.total + (rows * kept.mask[..., None]).sum(dim=1)
        return tokens, total / count.clamp(min=1)


def _after(earlier: Tensor | None, new: Tensor, axis: int) -> Tensor:
    return new if earlier is None else torch.cat([earlier.to(new.dtype), new], dim=axis)
