"""A causal stack of HSTU blocks: pointwise attention without softmax, gated (Zhai et al., ICML 2024).

For rows x that see the rows j::

    u, v, q, k = split(silu(LN(x) W))
    seen       = sum_j silu(q . k_j + bias_j) v_j / n        # n is fixed, whatever the padding of a batch
    x'         = x + (LN(seen) * u) W_o

Behaviors see earlier ones, themselves and the tokens before the sequence. A candidate sees the behaviors of
its past, the tokens before them, and itself. So behaviors are computed once for any number of candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.errors import ConfigError
from clickscale.layers.attention import merge_heads, split_heads
from clickscale.layers.bias import AttentionBias, Buckets, Sharing
from clickscale.layers.visibility import Visibility
from clickscale.models._base import State, require_unpadded

_NEVER = -1e4  # a masked score: its SiLU is 0, also in half precision
PREFIX, BEHAVIOR, CANDIDATE, RECENT = range(4)  # kinds of rows


@dataclass(frozen=True)
class PointwiseState(State):
    """Keys and values of a user.

    Attributes:
        items, times: (B, L).
        profile: (B, n2, d).
        prefix_keys, prefix_values: per block (B, H, P, D / H), tokens before the sequence.
        keys, values: per block (B, H, L, D / H).
    """

    GROWS = {"items": 1, "times": 1, "keys": 2, "values": 2}

    items: Tensor
    times: Tensor
    profile: Tensor
    prefix_keys: tuple[Tensor, ...]
    prefix_values: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class _Block(nn.Module):
    """One block.

    Args:
        kinds: 1 if all rows share the norms, 3 or 4 if each kind of row has its own.
        silu: apply SiLU to queries, keys, values and gates.
        last: only the rows of candidates are finished.
    """

    def __init__(self, width: int, heads: int, kinds: int, silu: bool, last: bool) -> None:
        super().__init__()
        self.heads, self.silu = heads, silu
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(kinds))
        self.enter = nn.Linear(width, 4 * width)
        self.seen_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(1 if last else kinds))
        self.leave = nn.Linear(width, width)

    def project(self, x: Tensor, kind: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows (B, N, D) -> gate (B, N, D); query, key and value (B, H, N, D / H)."""
        entered = self.enter(self.norms[kind % len(self.norms)](x))
        parts = (functional.silu(entered) if self.silu else entered).chunk(4, dim=-1)
        gate, value, query, key = parts
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        return gate, query, key, value

    def finish(self, x: Tensor, seen: Tensor, gate: Tensor, kind: int) -> Tensor:
        """Rows (B, N, D) and the sums (B, H, N, D / H) that they read -> rows."""
        normalized = self.seen_norms[kind % len(self.seen_norms)](merge_heads(seen))
        return x + self.leave(normalized * gate)


class PointwiseStack(nn.Module):
    """Blocks and their bias.

    Args:
        width: D. length: n, by which sums are divided; distances beyond it share one entry of the bias.
        kinds: 1 if all rows share the norms, 3 if prefix, behaviors and candidates have their own, 4 if the
            newest behaviors are a kind as well.

    Raises:
        ConfigError: the width cannot be divided among the heads.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: int,
        heads: int,
        length: int,
        sharing: Sharing,
        buckets: Buckets,
        kinds: int = 1,
        silu: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The width of a block, {width}, is not a multiple of heads={heads}; change d.")
        self.share = 1 / max(length, 1)
        self.blocks = nn.ModuleList(
            _Block(width, heads, kinds, silu, index == blocks - 1) for index in range(blocks)
        )
        self.bias = AttentionBias(sharing, blocks, heads, length, buckets)

    def _each(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]

    def begin(self, profile: Tensor, prefix: Tensor) -> PointwiseState:
        """State of users without behaviors.

        Args:
            profile: (B, n2, d), kept for the head.
            prefix: (B, P, D) tokens before the sequence, which see each other.
        """
        keys, values, empty = [], [], []
        x = prefix
        for index, block in enumerate(self._each()):
            gate, query, key, value = block.project(x, PREFIX)
            keys.append(key)
            values.append(value)
            empty.append(key[:, :, :0])
            if index < len(self.blocks) - 1:  # the last block's rows are never read
                seen = functional.silu(query @ key.transpose(-1, -2)) @ value * self.share
                x = block.finish(x, seen, gate, PREFIX)
        none = torch.zeros((len(profile), 0), dtype=torch.int64, device=profile.device)
        return PointwiseState(none, none, profile, tuple(keys), tuple(values), tuple(empty), tuple(empty))

    def advance(self, state: PointwiseState, x: Tensor, user: UserSide) -> PointwiseState:
        """Compute further behaviors, tokens x (B, N, D), on top of a state."""
        past = state.items.shape[1]
        items = torch.cat([state.items, user.items], dim=1)  # (B, P + N)
        times = torch.cat([state.times, user.times], dim=1)  # (B, P + N)
        column = torch.arange(items.shape[1], device=items.device)
        distance = column[past:, None] - column  # (N, P + N)
        allowed = (distance >= 0) & (items > 0)[:, None]  # (B, N, P + N)
        biases = self.bias(times[:, past:, None] - times[:, None], distance, allowed)
        keys, values = [], []
        for index, (block, bias) in enumerate(zip(self._each(), biases, strict=True)):
            gate, query, key, value = block.project(x, BEHAVIOR)
            keys.append(torch.cat([state.keys[index].to(key.dtype), key], dim=2))
            values.append(torch.cat([state.values[index].to(value.dtype), value], dim=2))
            if index < len(self.blocks) - 1:
                seen = self._over(state, index, query, keys[-1], values[-1], bias)
                x = block.finish(x, seen, gate, BEHAVIOR)
        return PointwiseState(
            items,
            times,
            state.profile,
            state.prefix_keys,
            state.prefix_values,
            tuple(keys),
            tuple(values),
        )

    def extend(self, state: PointwiseState, x: Tensor, user: UserSide) -> PointwiseState:
        """`advance` where behaviors are appended.

        Raises:
            InputError: a row of ``user`` is padded.
        """
        require_unpadded(user)
        return self.advance(state, x, user)

    def candidates(self, state: PointwiseState, x: Tensor, side: CandidateSide) -> Tensor:
        """Rows (B, C, D) of the last block for candidate tokens x (B, C, D)."""
        shown = Visibility.of(side, state.items, state.times)
        column = torch.arange(state.items.shape[1], device=x.device)
        distance = shown.visible[..., None] - column  # (B, C', L)
        biases = self.bias(shown.moment[..., None] - state.times[:, None], distance, shown.seen)
        for index, (block, bias) in enumerate(zip(self._each(), biases, strict=True)):
            gate, query, key, value = block.project(x, CANDIDATE)
            past, held = state.keys[index].to(key.dtype), state.values[index].to(value.dtype)
            seen = self._over(state, index, query, past, held, bias)
            own = (query * key).sum(dim=-1, keepdim=True)  # (B, H, C, 1)
            own = functional.silu(own + self.bias.own(index, x.device)[:, None, None])
            x = block.finish(x, seen + own * value * self.share, gate, CANDIDATE)
        return x

    def at_once(
        self, rows: Sequence[tuple[Tensor, int]], allowed: Tensor, there: Tensor, own: Tensor
    ) -> Tensor:
        """Rows (V, C, D) of candidates after the last block, over a sequence that is computed as a whole.

        For a sequence in which later rows change earlier ones, so that nothing of it can be kept.

        Args:
            rows: the sequence, as tensors (V, n, D) of one kind each; together N rows.
            allowed: (V, N, N) bool, the rows that each row sees.
            there: (V, N) bool, the rows that candidates see beside themselves.
            own: (V, C, D) tokens of the candidates.
        """
        for index, block in enumerate(self._each()):
            parts = [block.project(x, kind) for x, kind in rows]
            key, value = (torch.cat([part[place] for part in parts], dim=2) for place in (2, 3))
            gate, query, own_key, own_value = block.project(own, CANDIDATE)
            scores = functional.silu(query @ key.transpose(-1, -2)) * there[:, None, None]  # (V, H, C, N)
            itself = functional.silu((query * own_key).sum(dim=-1, keepdim=True)) * own_value
            own = block.finish(own, (scores @ value + itself) * self.share, gate, CANDIDATE)
            if index == len(self.blocks) - 1:  # the last block's rows are never read
                break
            after, begin = [], 0
            for (x, kind), (gate, query, _, _) in zip(rows, parts, strict=True):
                seen = allowed[:, None, begin : begin + x.shape[1]]
                read = functional.silu(query @ key.transpose(-1, -2)) * seen @ value * self.share
                after.append((block.finish(x, read, gate, kind), kind))
                begin += x.shape[1]
            rows = after
        return own

    def _over(
        self, state: PointwiseState, index: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor
    ) -> Tensor:
        """Sums (B, H, Q, D / H) over the prefix and the behaviors that the bias (B, 1 or H, Q, L) shows."""
        scores = query @ key.transpose(-1, -2) + bias.clamp(min=_NEVER)  # (B, H, Q, L)
        seen = functional.silu(scores) @ value
        if state.prefix_keys[index].shape[2]:
            before, held = (part[index].to(key.dtype) for part in (state.prefix_keys, state.prefix_values))
            seen = seen + functional.silu(query @ before.transpose(-1, -2)) @ held
        return seen * self.share
