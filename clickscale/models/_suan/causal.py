"""The causal stack of SUAN and LightSUAN: blocks over a timeline, their states, candidates over them.

A behavior sees earlier behaviors, a candidate sees behaviors and itself (Lai et al. 2025, sections 3.2, 3.3).
So behaviors are computed once, later ones can be appended exactly, and any number of candidates can be scored
over what is kept of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clickscale.batch import CandidateSide, UserSide
from clickscale.errors import ConfigError, InputError
from clickscale.layers.attention import Pattern
from clickscale.layers.bias import AttentionBias, Buckets, Sharing
from clickscale.layers.pooling import BehaviorMean, running_sum, sum_between
from clickscale.models._suan.block import Attend, AttentionBlock, BlockConfig
from clickscale.models._suan.who_sees_whom import over_behaviors, over_parts, over_whole
from clickscale.state import State

Pooling = Literal["prefix", "split", "behaviors"]
T = TypeVar("T")
FULL = Pattern()


@dataclass(frozen=True)
class AppendableState(State):
    """Everything of L behaviors that candidates or further behaviors can ask for.

    Attributes:
        mask, times: (B, L).
        profile: (B, n2, d).
        keys, values: per block (B, H, L, D / H).
        sums: per block (B, L + 1, D), running sums of what the gate averages; (B, 1, D), only the last of
            them, in what `CausalStack.without_sums` keeps; width 0 without a gate.
        rows: (B, L, D) of behaviors where a model's candidates read them, else (B, 0, D).
    """

    GROWS = {"mask": 1, "times": 1, "keys": 2, "values": 2, "sums": 1, "rows": 1}

    mask: Tensor
    times: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]
    rows: Tensor


@dataclass(frozen=True)
class ScoringState(State):
    """What candidates read that see all behaviors: of a sparse pattern only M = k - 1 + L / r columns.

    Attributes:
        mask, times: (B, M) of the columns that the position after the last behavior sees, ascending.
        count: (B, 1) int64, how many behaviors there are.
        profile: (B, n2, d).
        keys, values: per block (B, H, M, D / H).
        sums: per block (B, D), sum of what the gate averages; width 0 without a gate.
    """

    GROWS = {"mask": 1, "times": 1, "keys": 2, "values": 2}

    mask: Tensor
    times: Tensor
    count: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]


CausalState = AppendableState | ScoringState


class CausalStack(nn.Module):
    """Blocks, their attention bias, and who sees whom.

    Args:
        width: D, width of a token.
        profile_dim: d, width of a profile field.
        length: distances beyond it share one entry of the bias.
        pooling: what the gate averages, see `clickscale.models.suan.ModelConfig`.

    Attributes:
        recompute: keep only what enters and leaves a block until the backward pass, and compute the rest
            again there: less memory, more time, the same numbers to the last bit.

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
        pooling: Pooling = "prefix",
        pattern: Pattern = FULL,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The width of a block, {width}, is no multiple of heads={heads}; change d.")
        self.width, self.pooling, self.pattern = width, pooling, pattern
        self.recompute = False
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, profile_dim, block) for _ in range(blocks))
        self.bias = AttentionBias(sharing, blocks, heads, length, buckets)

    def each(self) -> list[AttentionBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, AttentionBlock)]

    def empty(self, profile: Tensor) -> AppendableState:
        """State of users (B) without behaviors; ``profile`` (B, n2, d)."""
        rows = len(profile)
        times = torch.zeros((rows, 0), dtype=torch.int64, device=profile.device)
        return AppendableState(
            times.bool(), times, profile, (), (), (), profile.new_zeros(rows, 0, self.width)
        )

    def advance(
        self, state: AppendableState, x: Tensor, times: Tensor, mask: Tensor, *, keep_rows: bool = False
    ) -> AppendableState:
        """Compute further behaviors on top of a state.

        Args:
            x: (B, N, D) tokens; ``times``, ``mask``: (B, N).
            keep_rows: whether candidates read the rows of the last block.
        """
        past = state.mask.shape[1]
        seen, when = torch.cat([state.mask, mask], dim=1), torch.cat([state.times, times], dim=1)
        attention = over_behaviors(self.bias, self.pattern, when, seen, past)
        counts = running_sum(seen[..., None].to(x.dtype))  # (B, P + N + 1, 1)
        keys, values, sums = [], [], []
        for number, block in enumerate(self.each()):
            mean = partial(BehaviorMean, mask, counts, state.sums[number] if past else None)
            before = (state.keys[number], state.values[number]) if past else None
            read = number < len(attention) - 1 or keep_rows
            x, key, value, total = self._computed(
                self._behaviors, block, read, x, state.profile, attention[number], before, mean
            )
            keys.append(key)
            values.append(value)
            sums.append(total)
        rows = torch.cat([state.rows.to(x.dtype), x], dim=1) if keep_rows else state.rows
        return AppendableState(seen, when, state.profile, tuple(keys), tuple(values), tuple(sums), rows)

    def _behaviors(
        self,
        block: AttentionBlock,
        read: bool,
        x: Tensor,
        profile: Tensor,
        attention: Attend,
        before: tuple[Tensor, Tensor] | None,
        average: Callable[..., BehaviorMean],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One block: its rows (the old ones if nobody will ``read`` them), keys, values and running sums."""
        mean = average(causal=self.pooling == "prefix")
        if read:
            x, key, value = block.behaviors(x, profile, attention, before, mean)
        else:
            key, value = block.last_behaviors(x, profile, attention, before, mean)
        return x, key, value, mean.sums

    # --- what is kept

    def without_sums(self, state: CausalState) -> AppendableState:
        """The same state for candidates who see all of it; behaviors can be appended."""
        state = _appendable(state)
        last = tuple(sums[:, -1:].clone() for sums in state.sums)
        return AppendableState(
            state.mask, state.times, state.profile, state.keys, state.values, last, state.rows
        )

    def for_scoring(self, state: CausalState, *, own_memory: bool = True) -> ScoringState:
        """What candidates read who see all behaviors; ``own_memory`` lets go of the rest."""
        state = _appendable(state)
        chosen = self.pattern.columns(state.mask.shape[1], state.mask.device)

        def columns(x: Tensor, axis: int) -> Tensor:
            return x if self.pattern.full else x.index_select(axis, chosen)

        last = (sums[:, -1] for sums in state.sums)
        return ScoringState(
            mask=columns(state.mask, 1),
            times=columns(state.times, 1),
            count=state.mask.sum(dim=1, keepdim=True),
            profile=state.profile,
            keys=tuple(columns(key, 2) for key in state.keys),
            values=tuple(columns(value, 2) for value in state.values),
            sums=tuple(sums.clone() if own_memory else sums for sums in last),
        )

    # --- candidates

    def candidates(self, state: CausalState, x: Tensor, side: CandidateSide) -> Tensor:
        """Rows (B, C, D) of the last block for candidate tokens ``x`` (B, C, D).

        Every candidate stands right after the last behavior it sees, at its own time.

        Raises:
            InputError: the state keeps less than what the candidates see.
        """
        if isinstance(state, ScoringState):
            return self._over_whole(state, x, side)
        if bool(((side.visible == state.mask.shape[1]) & (side.oldest == 0)).all()):
            return self._over_whole(self.for_scoring(state, own_memory=False), x, side)
        if any(sums.shape[1] != state.mask.shape[1] + 1 for sums in state.sums):
            raise InputError("This state was kept for candidates that see all of it; encode the user again.")
        return self._over_parts(state, x, side)

    def _over_whole(self, state: ScoringState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates that see all behaviors: who sees what does not depend on the candidate."""
        distance = self._distances(state.mask.shape[1], x.device)
        attention = over_whole(self.bias, distance, state.times, state.mask, state.keys, state.values, side)
        totals = [sums[:, None] for sums in state.sums]
        return self._rows(state, x, attention, totals, state.count[..., None])

    def _distances(self, held: int, device: torch.device) -> Tensor:
        """(M,) distances from the position after the last behavior to the columns it sees, descending."""
        if self.pattern.full:
            return torch.arange(held, 0, -1, device=device)
        distance = torch.arange(1, held * self.pattern.r + 1, device=device)
        return distance[self.pattern.allows(distance)][:held].flip(0)

    def _over_parts(self, state: AppendableState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates that see different parts of one timeline."""
        attention = over_parts(
            self.bias, self.pattern, state.times, state.mask, state.keys, state.values, side
        )
        oldest, end = side.oldest, torch.maximum(side.oldest, side.visible)
        totals = [sum_between(sums.to(x.dtype), oldest, end) for sums in state.sums]
        count = sum_between(running_sum(state.mask[..., None].to(x.dtype)), oldest, end)
        return self._rows(state, x, attention, totals, count)

    def _rows(
        self,
        state: CausalState,
        x: Tensor,
        attention: list[Attend],
        totals: list[Tensor],
        count: Tensor,
    ) -> Tensor:
        """Through all blocks: totals (B, C or 1, D) and count (B, C or 1, 1) of what each candidate sees."""
        for number, block in enumerate(self.each()):
            mean = partial(self._mean, totals[number], count)
            x = self._computed(block.candidates, x, state.profile, attention[number], mean)
        return x

    def _mean(self, total: Tensor, count: Tensor, own: Tensor) -> Tensor:
        """What the gate of candidates sees: the mean of the behaviors, with themselves or without."""
        total = total.to(own.dtype)
        return total / count.clamp(min=1) if self.pooling == "behaviors" else (total + own) / (count + 1)

    def _computed(self, function: Callable[..., T], *args: Any) -> T:
        """The function's result; see ``recompute``."""
        if not (self.recompute and torch.is_grad_enabled()):
            return function(*args)
        found: T = checkpoint(function, *args, use_reentrant=False)
        return found


def recompute_blocks(model: nn.Module) -> int:
    """Make the causal stacks of a model recompute their blocks in the backward pass; how many there are."""
    stacks = [module for module in model.modules() if isinstance(module, CausalStack)]
    for stack in stacks:
        stack.recompute = True
    return len(stacks)


def without_padding(state: CausalState, user: UserSide) -> AppendableState:
    """The state, if the behaviors of ``user`` can be appended to it.

    Raises:
        InputError: a row is padded (all must gain equally many behaviors), or the state is for scoring alone.
    """
    if not bool(user.mask.all()):
        raise InputError("extend_user needs rows that all gain the same number of behaviors.")
    return _appendable(state)


def _appendable(state: CausalState) -> AppendableState:
    """The state in the form to which behaviors can be appended."""
    if isinstance(state, ScoringState):
        raise InputError(
            "Nothing can be appended to a state that was kept for scoring; encode the user again."
        )
    return state
