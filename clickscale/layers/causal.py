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
from clickscale.layers.attention import Pattern, attend, attend_with_itself
from clickscale.layers.bias import AttentionBias, Buckets, RelativeBias, Sharing
from clickscale.layers.pooling import BehaviorMean, running_sum, sum_between
from clickscale.layers.sparse_attention import ClassPlan, attend_by_classes, class_plan
from clickscale.layers.state import State
from clickscale.layers.unified import Attend, AttentionBlock, BlockConfig

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
        attention = self._attention(when, seen, past)
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

    def _attention(self, times: Tensor, mask: Tensor, past: int) -> list[Attend]:
        """Of every block: attention of the behaviors after the first ``past`` over all."""
        k, r, length = self.pattern.k, self.pattern.r, mask.shape[1]
        if not past and r > 1 and length >= 100:
            plan = class_plan(times, mask, k, r, self.bias.buckets)
            return [partial(_over_classes, plan, self.bias.tables(n)) for n in range(len(self.blocks))]
        column = torch.arange(length, device=mask.device)
        distance = column[past:, None] - column  # (N, P + N)
        # Padding sees itself, so no row is empty.
        allowed = (distance == 0) | (self.pattern.allows(distance) & mask[:, None])
        biases = self.bias(times[:, past:, None] - times[:, None], distance, allowed)
        return [partial(_over_all, bias) for bias in biases]

    # --- what is kept

    def without_sums(self, state: AppendableState) -> AppendableState:
        """The same state for candidates who see all of it; behaviors can be appended."""
        last = tuple(sums[:, -1:].clone() for sums in state.sums)
        return AppendableState(
            state.mask, state.times, state.profile, state.keys, state.values, last, state.rows
        )

    def for_scoring(self, state: AppendableState, *, own_memory: bool = True) -> ScoringState:
        """What candidates read who see all behaviors; ``own_memory`` lets go of the rest."""
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

    def candidates(self, state: AppendableState | ScoringState, x: Tensor, side: CandidateSide) -> Tensor:
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
        held = state.mask.shape[1]
        one = side.times[:, :1]
        times = one if bool((side.times == one).all()) else side.times  # of one moment: (B, 1)
        distance = self._distances(held, x.device)[None]  # (1, M)
        allowed = state.mask[:, None].expand(-1, times.shape[1], -1)
        biases = self.bias(times[..., None] - state.times[:, None], distance, allowed)
        totals = [sums[:, None] for sums in state.sums]
        return self._rows(state, x, biases, totals, state.count[..., None])

    def _distances(self, held: int, device: torch.device) -> Tensor:
        """(M,) distances from the position after the last behavior to the columns it sees, descending."""
        if self.pattern.full:
            return torch.arange(held, 0, -1, device=device)
        distance = torch.arange(1, held * self.pattern.r + 1, device=device)
        return distance[self.pattern.allows(distance)][:held].flip(0)

    def _over_parts(self, state: AppendableState, x: Tensor, side: CandidateSide) -> Tensor:
        """Candidates that see different parts of one timeline."""
        column = torch.arange(state.mask.shape[1], device=x.device)
        oldest, visible = side.oldest[..., None], side.visible[..., None]
        inside = (column >= oldest) & (column < visible) & state.mask[:, None]  # (B, C, L)
        distance = visible - column
        allowed = inside if self.pattern.full else inside & self.pattern.allows(distance)
        biases = self.bias(side.times[..., None] - state.times[:, None], distance, allowed)
        totals = [sum_between(sums.to(x.dtype), side.oldest, side.visible) for sums in state.sums]
        return self._rows(state, x, biases, totals, inside.sum(dim=-1, keepdim=True))

    def _rows(
        self,
        state: AppendableState | ScoringState,
        x: Tensor,
        biases: list[Tensor],
        totals: list[Tensor],
        count: Tensor,
    ) -> Tensor:
        """Through all blocks: totals (B, C or 1, D) and count (B, C or 1, 1) of what each candidate sees."""
        for number, block in enumerate(self.each()):
            total = totals[number]

            def mean(own: Tensor, total: Tensor = total) -> Tensor:
                alone = self.pooling == "behaviors"
                return (
                    total.to(own.dtype) / count.clamp(min=1)
                    if alone
                    else (total.to(own.dtype) + own) / (count + 1)
                )

            own = self.bias.own(number, x.device)
            attention = partial(_over_kept, state.keys[number], state.values[number], biases[number], own)
            x = self._computed(block.candidates, x, state.profile, attention, mean)
        return x

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


def without_padding(state: AppendableState, user: UserSide) -> AppendableState:
    """The state, if the behaviors of ``user`` can be appended to it.

    Raises:
        InputError: a row is padded (all must gain equally many behaviors), or the state is for scoring alone.
    """
    if not isinstance(state, AppendableState):
        raise InputError(
            "Nothing can be appended to a state that was kept for scoring; encode the user again."
        )
    if not bool(user.mask.all()):
        raise InputError("extend_user needs rows that all gain the same number of behaviors.")
    return state


def _over_all(bias: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attend(query, key, value, bias, scale)


def _over_classes(
    plan: ClassPlan, tables: RelativeBias | None, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    time, position = (None, None) if tables is None else (tables.time, tables.position)
    return attend_by_classes(query, key, value, plan, time, position, scale)


def _over_kept(
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    own: Tensor,
    query: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    scale: float,
) -> Tensor:
    """Attention of candidates over a state's keys and values, which may be kept in half precision."""
    key, value = key.to(query.dtype), value.to(query.dtype)
    return attend_with_itself(query, key, value, own_key, own_value, bias, own, scale)
