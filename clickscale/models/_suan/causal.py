"""The causal stack of SUAN and LightSUAN: blocks over a timeline, their states, candidates over them.

A behavior sees earlier behaviors, a candidate sees behaviors and itself (Lai et al. 2025, sections 3.2, 3.3).
So behaviors are computed once, later ones can be appended exactly, and any number of candidates can be scored
over what is kept of them::

    for block in blocks:                                    # the behaviors, once per user
        rows, query, key, value = block.enter(x)
        seen = attention(query, keys before + key, values before + value)
        own, cross, averaged = block.meet_profile(seen, profile)
        sums = running sum of averaged                      # kept, as are the keys and values
        x = block.leave(own, cross, mean = sums / number of behaviors so far)

    for block in blocks:                                    # any number of candidates
        rows, query, key, value = block.enter(y)
        seen = attention(query, kept keys and the own one, kept values and the own one)
        own, cross, averaged = block.meet_profile(seen, profile)
        y = block.leave(own, cross, mean = (sum over visible behaviors + averaged) / (their number + 1))

The last block's rows of behaviors are never read, so that block stops at its sums.

In training a batch is scored once. There a candidate is one more row after the behaviors, whose column nobody
else sees, and each block computes all rows at once. That is about half as many operations, and the time of a
small step is mostly their number. `TokenState` hands the behaviors on until the candidates are there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError, InputError
from clickscale.layers.bias import AttentionBias, Buckets, Sharing
from clickscale.layers.pooling import running_sum, sum_between
from clickscale.layers.recompute import Recomputable
from clickscale.models._suan.block import AttentionBlock, BlockConfig
from clickscale.models._suan.patterns import HeadPatterns, staggered
from clickscale.models._suan.who_sees_whom import (
    Attend,
    one_sequence_pays,
    over_behaviors,
    over_parts,
    over_rows,
    over_whole,
)
from clickscale.state import State

T = TypeVar("T")


@dataclass(frozen=True)
class AppendableState(State):
    """Everything about L behaviors that candidates or appended behaviors need.

    Attributes:
        mask, times: (B, L).
        profile: (B, n2, d).
        keys, values: per block (B, H, L, D / H).
        sums: per block (B, L + 1, D / 4), running sums of the inputs to the gate's mean; width 0 without a
            gate. `CausalStack.without_sums` keeps only the last of them, (B, 1, D / 4).
    """

    GROWS = {"mask": 1, "times": 1, "keys": 2, "values": 2, "sums": 1}

    mask: Tensor
    times: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]


@dataclass(frozen=True)
class ScoringState(State):
    """The state needed by candidates that see all behaviors: of a sparse pattern M = k - 1 + L / r columns.

    Every head has columns of its own; P distinct patterns occur among the heads.

    Attributes:
        mask, times: (B, P, M) of the columns that the position after the last behavior sees, ascending.
        count: (B, 1) int64, how many behaviors there are.
        profile: (B, n2, d).
        keys, values: per block (B, H, M, D / H).
        sums: per block (B, D / 4), sum of the inputs to the gate's mean; width 0 without a gate.
    """

    GROWS = {"mask": 2, "times": 2, "keys": 2, "values": 2}

    mask: Tensor
    times: Tensor
    count: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]


@dataclass(frozen=True)
class TokenState(State):
    """Behaviors that no block has computed yet, so that candidates can be computed with them.

    Attributes:
        mask, times: (B, L).
        profile: (B, n2, d).
        tokens: (B, L, D).
    """

    GROWS = {"mask": 1, "times": 1, "tokens": 1}

    mask: Tensor
    times: Tensor
    profile: Tensor
    tokens: Tensor


CausalState = AppendableState | ScoringState | TokenState


class CausalStack(Recomputable):
    """Blocks, their attention bias, and the patterns of visible pairs.

    Args:
        width: D, width of a token.
        profile_dim: d, width of a profile field.
        length: distances beyond it share one entry of the bias.
        patterns: the earlier behaviors that a behavior sees, by default all.
        reads: the behaviors that a candidate sees, by default all.

    Raises:
        ConfigError: the width cannot be divided among the heads.
    """

    def __init__(
        self,
        width: int,
        profile_dim: int,
        *,
        blocks: int,
        heads: int,
        block: BlockConfig,
        length: int,
        sharing: Sharing = "shared",
        buckets: Buckets = "octave",
        patterns: HeadPatterns | None = None,
        reads: HeadPatterns | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The width of a block, {width}, is not a multiple of heads={heads}; change d.")
        everything = staggered(1, 1, "paper", blocks, heads)
        self.patterns, self.reads = patterns or everything, reads or everything
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, profile_dim, block) for _ in range(blocks))
        self.bias = AttentionBias(sharing, blocks, heads, length, buckets)

    # --- behaviors

    def encode(self, profile: Tensor, x: Tensor, times: Tensor, mask: Tensor) -> AppendableState | TokenState:
        """State of users; in training their behaviors wait for the candidates.

        Args:
            profile: (B, n2, d). x: (B, L, D) tokens; ``times``, ``mask``: (B, L).
        """
        tokens = TokenState(mask, times, profile, x)
        return tokens if self.training and torch.is_grad_enabled() else self.appendable(tokens)

    def appendable(self, state: CausalState) -> AppendableState:
        """The state in the form to which behaviors can be appended.

        Raises:
            InputError: the state was kept for scoring.
        """
        if isinstance(state, ScoringState):
            raise InputError(
                "Nothing can be appended to a state that was kept for scoring; encode the user again."
            )
        if isinstance(state, AppendableState):
            return state
        times = state.times[:, :0]  # (B, 0)
        empty = AppendableState(times.bool(), times, state.profile, (), (), ())
        return self.advance(empty, state.tokens, state.times, state.mask)

    def advance(self, state: AppendableState, x: Tensor, times: Tensor, mask: Tensor) -> AppendableState:
        """Compute further behaviors on top of a state.

        Args:
            x: (B, N, D) tokens; ``times``, ``mask``: (B, N).
        """
        past = state.mask.shape[1]
        seen = torch.cat([state.mask, mask], dim=1)  # (B, P + N)
        when = torch.cat([state.times, times], dim=1)  # (B, P + N)
        attention = over_behaviors(self.bias, self.patterns, when, seen, past)
        real = mask[..., None].to(x.dtype)  # (B, N, 1): padding counts for no mean
        before = state.mask.sum(dim=1, keepdim=True)  # (B, 1)
        share = (before + mask.cumsum(dim=1)).clamp_(min=1)[..., None].to(x.dtype).reciprocal()  # (B, N, 1)
        keys, values, sums = [], [], []
        for index, block in enumerate(self.blocks):
            earlier = (state.keys[index], state.values[index], state.sums[index]) if past else None
            read = index < len(self.blocks) - 1
            x, key, value, total = self._computed(
                _behaviors, block, read, x, state.profile, attention[index], earlier, real, share
            )
            keys.append(key)
            values.append(value)
            sums.append(total)
        return AppendableState(seen, when, state.profile, tuple(keys), tuple(values), tuple(sums))

    # --- what is kept

    def without_sums(self, state: CausalState) -> AppendableState:
        """The same state for candidates that see all of it; behaviors can be appended."""
        state = self.appendable(state)
        last = tuple(sums[:, -1:].clone() for sums in state.sums)  # a slice would keep all of them alive
        return AppendableState(state.mask, state.times, state.profile, state.keys, state.values, last)

    def for_scoring(self, state: CausalState, *, own_memory: bool = True) -> ScoringState:
        """The state needed by candidates that see all behaviors; ``own_memory`` copies its sums."""
        state = self.appendable(state)
        mask, times = state.mask[:, None], state.times[:, None]  # (B, 1, L)
        keys, values = state.keys, state.values
        if not self.reads.full:
            columns, real = self.reads.columns(state.mask.shape[1], state.mask.device)  # (P, M)
            mask, times = state.mask[:, columns] & real, state.times[:, columns]  # (B, P, M)
            keys, values = (
                tuple(_columns(x, columns, heads) for x, heads in zip(every, self.reads.heads, strict=True))
                for every in (keys, values)
            )
        last = (sums[:, -1] for sums in state.sums)
        return ScoringState(
            mask=mask,
            times=times,
            count=state.mask.sum(dim=1, keepdim=True),
            profile=state.profile,
            keys=keys,
            values=values,
            sums=tuple(sums.clone() if own_memory else sums for sums in last),
        )

    # --- candidates

    def candidates(self, state: CausalState, x: Tensor, side: CandidateSide) -> Tensor:
        """Rows (B, C, D) of the last block for candidate tokens ``x`` (B, C, D).

        Every candidate stands right after the last behavior it sees, at its own time.

        Raises:
            InputError: the state keeps less than what the candidates see.
        """
        if isinstance(state, TokenState) and one_sequence_pays(self.patterns, state.mask, side):
            return self._together(state, x, side)
        if isinstance(state, ScoringState):
            return self._over_whole(state, x, side)
        state = self.appendable(state)
        if _all_see_all(state, side):
            return self._over_whole(self.for_scoring(state, own_memory=False), x, side)
        return self._over_parts(state, x, side)

    def _together(self, state: TokenState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates as further rows after the behaviors of their user."""
        length = state.mask.shape[1]
        attention, seen = over_rows(self.bias, self.patterns, self.reads, state.times, state.mask, side)
        x = torch.cat([state.tokens, x], dim=1)  # (B, L + C, D)
        share = seen.to(x.dtype)  # (B, N, N)
        share = share / share.sum(dim=-1, keepdim=True)
        for index, (block, attend) in enumerate(zip(self.blocks, attention, strict=True)):
            first = length if index == len(self.blocks) - 1 else 0
            x = self._computed(_all_rows, block, first, x, state.profile, attend, share)
        return x

    def _over_whole(self, state: ScoringState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates that see all behaviors: the visible columns do not depend on the candidate."""
        attention = over_whole(self.bias, self.reads, state.times, state.mask, state.keys, state.values, side)
        totals = [sums[:, None].to(x.dtype) for sums in state.sums]  # (B, 1, D / 4)
        return self._rows(state, x, attention, totals, state.count[..., None].to(x.dtype))

    def _over_parts(self, state: AppendableState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates that see different parts of one timeline."""
        attention = over_parts(self.bias, self.reads, state.times, state.mask, state.keys, state.values, side)
        end = torch.maximum(side.oldest, side.visible)  # an empty range sums to zero
        totals = [sum_between(sums.to(x.dtype), side.oldest, end) for sums in state.sums]  # (B, C, D / 4)
        count = sum_between(running_sum(state.mask[..., None].to(x.dtype)), side.oldest, end)  # (B, C, 1)
        return self._rows(state, x, attention, totals, count)

    def _rows(
        self,
        state: CausalState,
        x: Tensor,
        attention: list[Attend],
        totals: list[Tensor],
        count: Tensor,
    ) -> Tensor:
        """Through all blocks: totals (B, C or 1, D / 4) and count (B, C or 1, 1) of what candidates see."""
        share = (count + 1).reciprocal()
        for block, attend, total in zip(self.blocks, attention, totals, strict=True):
            x = self._computed(_candidates, block, x, state.profile, attend, total, share)
        return x

    def _computed(self, function: Callable[..., T], *args: Any) -> T:
        """The function's result; see ``recompute``."""
        if not (self.recompute and torch.is_grad_enabled()):
            return function(*args)
        result: T = checkpoint(function, *args, use_reentrant=False)
        return result


def _behaviors(
    block: AttentionBlock,
    read: bool,
    x: Tensor,
    profile: Tensor,
    attention: Attend,
    earlier: tuple[Tensor, Tensor, Tensor] | None,
    real: Tensor,
    share: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One block over behaviors.

    Args:
        read: whether the next block reads the rows; if not, the old ones are returned.
        earlier: keys, values and running sums of the P behaviors before, or None.
        real: (B, N, 1), 1 where there is a behavior.
        share: (B, N, 1), one over the number of behaviors up to each.

    Returns:
        Rows (B, N, D), keys and values (B, H, P + N, D / H) and running sums (B, P + N + 1, D / 4).
    """
    entered = block.enter(x)
    key, value = entered.key, entered.value
    if earlier is not None:
        key = torch.cat([earlier[0].to(key.dtype), key], dim=2)
        value = torch.cat([earlier[1].to(value.dtype), value], dim=2)
    if not (read or block.config.fusion == "afnet"):  # neither rows nor means of this block are read
        sums = x.new_zeros(len(x), key.shape[2] + 1, 0)
        return x, key, value, sums
    met = block.meet_profile(x, entered, attention(entered.query, key, value, block.scale), profile)
    start = earlier[2][:, -1:].to(x.dtype) if earlier is not None else None  # (B, 1, D / 4)
    running = running_sum(met.averaged * real, start)  # (B, N + 1, D / 4)
    sums = running if earlier is None else torch.cat([earlier[2][:, :-1].to(x.dtype), running], dim=1)
    return block.leave(met, running[:, 1:] * share) if read else x, key, value, sums


def _candidates(
    block: AttentionBlock, x: Tensor, profile: Tensor, attention: Attend, total: Tensor, share: Tensor
) -> Tensor:
    """One block over candidates (B, C, D), with the sum of what they see and one over its size plus one."""
    entered = block.enter(x)
    seen = attention(entered.query, entered.key, entered.value, block.scale)
    met = block.meet_profile(x, entered, seen, profile)
    return block.leave(met, (total + met.averaged) * share)  # eq. 11: behaviors and the candidate itself


def _all_rows(
    block: AttentionBlock, first: int, x: Tensor, profile: Tensor, attention: Attend, share: Tensor
) -> Tensor:
    """One block over behaviors and candidates: the rows from ``first`` on, of x (B, N, D).

    Args:
        share: (B, N, N), what each row counts in the mean of another.
    """
    entered = block.enter(x)
    seen = attention(entered.query, entered.key, entered.value, block.scale)
    met = block.meet_profile(x, entered, seen, profile)
    return block.leave(met.rows_from(first), _mean(share[:, first:], met.averaged))


def _mean(share: Tensor, x: Tensor) -> Tensor:
    """Mean of rows x (B, N, D) by shares (B, Q, N): (B, Q, D), in full precision also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.bmm(share.to(x.dtype), x)  # (B, Q, D)


def _columns(x: Tensor, columns: Tensor, heads: tuple[int, ...]) -> Tensor:
    """Of x (B, H, L, D / H) the columns (P, M) of each head's pattern: (B, H, M, D / H)."""
    if len(heads) == 1:
        return x.index_select(2, columns[heads[0]])
    return torch.stack(
        [x[:, head].index_select(1, columns[place]) for head, place in enumerate(heads)], dim=1
    )


def _all_see_all(state: AppendableState, side: CandidateSide) -> bool:
    """True if every candidate sees every behavior, so that all can share keys, values and sums.

    The answer must reach the processor, and on an accelerator that would wait for all work before it. There,
    only a state that can serve no other candidates says yes.

    Raises:
        InputError: the state was kept for candidates that see all of it, and one does not.
    """
    length = state.mask.shape[1]
    kept_whole = all(sums.shape[1] == length + 1 for sums in state.sums)
    if side.visible.device.type != "cpu":
        return not kept_whole
    if bool(((side.visible == length) & (side.oldest == 0)).all()):
        return True
    if not kept_whole:
        raise InputError("This state was kept for candidates that see all of it; encode the user again.")
    return False
