"""SUAN as its equations are written: one sequence for every candidate, nothing shared among candidates.

Eq. 11 of the paper averages the gate over the whole sequence, the candidate included. The behaviors' rows
then depend on the candidate, so all rows are computed again for each one. This file does that, with every
pair computed. It serves three purposes: the literal mean and two more readings of it; ablation D, which
leaves the candidate out of the sequence; and, with ``pooling=prefix``, a plain form of
`clickscale.models.suan`, whose scores it must give.

Cost grows with candidates times behaviors. Train it by single impressions, and do not serve it. Ablation D
with ``pooling=prefix`` is the exception: no row depends on a candidate, so the rows are the state.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import InputError
from clickscale.features import Features
from clickscale.layers.attention import attend
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.norm import RMSNorm
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.models._base import CTRModel, State
from clickscale.models._sizes import SIZES
from clickscale.models._suan.block import AttentionBlock, BlockConfig
from clickscale.models._suan.causal import CausalStack

Pooling = Literal["global", "split", "behaviors", "prefix"]


class ModelConfig(Config, frozen=True):
    """Options; those that SUAN has mean the same there.

    Attributes:
        d: width of one feature's embedding; the block's width D is d times the fields of a behavior.
        blocks: attention blocks. heads: of each block.
        bias: which heads and blocks share the tables of the attention bias; ``none`` leaves it out.
        buckets: ranges of time and distance that share an entry of the attention bias.
        pooling: rows that the gate's mean covers: ``global`` is eq. 11 (every row: all, the candidate
            included); ``split`` (behaviors: all behaviors; the candidate: these and itself); ``behaviors``
            (every row: all behaviors); ``prefix`` (every row: itself and earlier ones, as SUAN).
        target: the candidate ends the ``sequence``, or enters the ``head`` only (ablation D), which then
            reads the row of the last visible behavior.
        candidate: its missing behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes the token.
        time_of_week: add an embedding of hour and weekday to every token.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    blocks: int = 2
    heads: int = 2
    block: BlockConfig = BlockConfig()
    bias: Sharing = "shared"
    buckets: Buckets = "octave"
    pooling: Pooling = "global"
    target: Literal["sequence", "head"] = "sequence"
    candidate: Literal["zero_fill", "linear"] = "zero_fill"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads")


PRESETS = {name: ModelConfig(d=size.d, blocks=size.blocks, heads=size.heads) for name, size in SIZES.items()}


@dataclass(frozen=True)
class _TokenState(State):
    """Tokens of the behaviors: all that can be known before the candidate is.

    Attributes:
        mask, times: (B, L).
        profile: (B, n2, d).
        tokens: (B, L, D).
        rows: (B, L, D) of the last block if no candidate changes them, else (B, L, 0).
    """

    GROWS = {"mask": 1, "times": 1, "tokens": 1, "rows": 1}

    mask: Tensor
    times: Tensor
    profile: Tensor
    tokens: Tensor
    rows: Tensor


class SUANLiteral(CTRModel[_TokenState]):
    """See the module docstring."""

    adds_hours = True

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = TimedInputs(
            features,
            items,
            config.d,
            config.numbers,
            time_of_week=config.time_of_week,
            candidate=config.candidate,
        )
        width = self.inputs.width
        # Only its weights are used: with names and initial values of SUAN, runs of both can be compared.
        self.stack = CausalStack(
            width,
            config.d,
            blocks=config.blocks,
            heads=config.heads,
            block=config.block,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
        )
        self.last = RMSNorm(width) if config.block.residual == "prenorm" else nn.Identity()
        read = width + (width if config.target == "head" else 0)
        self.head = head_over(self.inputs, read, labels, config.head)

    def encode_user(self, user: UserSide) -> _TokenState:
        """Tokens of the behaviors, and their rows if these know no candidate."""
        profile, tokens = self.inputs.profile(user), self.inputs.timed_behaviors(user)
        return self._state(user.mask, user.times, profile, tokens)

    def extend_user(self, state: _TokenState, user: UserSide) -> _TokenState:
        """State of the longer history; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        if not bool(user.mask.all()):
            raise InputError("extend_user needs rows that all gain the same number of behaviors.")
        return self._state(
            torch.cat([state.mask, user.mask], dim=1),
            torch.cat([state.times, user.times], dim=1),
            state.profile,
            torch.cat([state.tokens, self.inputs.timed_behaviors(user)], dim=1),
        )

    def _state(self, mask: Tensor, times: Tensor, profile: Tensor, tokens: Tensor) -> _TokenState:
        """State of behaviors: mask and times (B, L), tokens (B, L, D)."""
        rows = tokens[..., :0]  # (B, L, 0)
        if self.config.target == "head" and self.config.pooling == "prefix":
            column = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)  # (B, L)
            rows = self._blocks(tokens, profile, times, mask, column)  # (B, L, D)
        return _TokenState(mask, times, profile, tokens, rows)

    def score(self, state: _TokenState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        count = candidates.items.shape[1]
        known = state.rows.shape[2] > 0
        rows = _newest_seen(state, candidates) if known else self._sequences(state, candidates)  # (B C, D)
        rows = self.last(rows).unflatten(0, (-1, count))  # (B, C, D)
        if self.config.target == "head":
            rows = torch.cat([rows, self.inputs.candidates(candidates)], dim=-1)  # (B, C, 2D)
        return self.head.over(rows, state.profile, self.inputs.context(candidates), candidates.mask)

    def _sequences(self, state: _TokenState, candidates: CandidateSide) -> Tensor:
        """Last rows (B C, D) of the sequences of all candidates."""
        count = candidates.items.shape[1]
        tokens = self.inputs.timed_candidates(candidates)
        column = torch.arange(state.mask.shape[1], device=state.mask.device)
        visible = candidates.visible.flatten()[:, None]  # (B C, 1)
        oldest = candidates.oldest.flatten()[:, None]  # (B C, 1)
        repeated = (state.mask, state.times, state.profile, state.tokens)
        mask, times, profile, behaviors = (part.repeat_interleave(count, dim=0) for part in repeated)
        mask = mask & (column >= oldest) & (column < visible)  # (B C, L)
        ends = self.config.target == "sequence"
        # The candidate stands right after the last behavior it sees, wherever that is in the row.
        position = torch.cat([column.expand_as(mask), visible], dim=1)  # (B C, L + 1)
        mask = torch.cat([mask, torch.full_like(visible, ends, dtype=torch.bool)], dim=1)
        times = torch.cat([times, candidates.times.flatten()[:, None]], dim=1)  # (B C, L + 1)
        x = torch.cat([behaviors.to(tokens.dtype), tokens.flatten(0, 1)[:, None]], dim=1)  # (B C, L + 1, D)
        rows = self._blocks(x, profile, times, mask, position)
        return rows[:, -1] if ends else _newest(rows, mask)

    def _blocks(self, x: Tensor, profile: Tensor, times: Tensor, mask: Tensor, position: Tensor) -> Tensor:
        """Rows (N, L + 1, D) of the last block; all pairs are computed, and masked."""
        distance = position[:, :, None] - position[:, None]  # (N, L + 1, L + 1)
        itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)  # no row is empty
        allowed = itself | ((distance >= 0) & mask[:, None] & mask[:, :, None])  # (N, L + 1, L + 1)
        biases = self.stack.bias(times[:, :, None] - times[:, None], distance, allowed)
        for block, bias in zip(cast("list[AttentionBlock]", self.stack.blocks), biases, strict=True):
            entered = block.enter(x)
            seen = attend(entered.query, entered.key, entered.value, bias, block.scale)
            met = block.meet_profile(x, entered, seen, profile)
            x = block.leave(met, _mean(met.averaged, mask, self.config.pooling))
        return x


def _mean(averaged: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(N, L + 1, D / 4): mean of what the gate of each row sees; the candidate is the last row."""
    real = mask[..., None].to(averaged.dtype)  # (N, L + 1, 1)
    if pooling == "prefix":
        return (averaged * real).cumsum(dim=1) / real.cumsum(dim=1).clamp(min=1)
    everything = _over(averaged, real)
    if pooling == "global":
        return everything.expand_as(averaged)
    behaviors = _over(averaged[:, :-1], real[:, :-1])
    if pooling == "behaviors":
        return behaviors.expand_as(averaged)
    first = behaviors.expand(-1, averaged.shape[1] - 1, -1)  # (N, L, D / 4)
    return torch.cat([first, everything], dim=1)  # (N, L + 1, D / 4)


def _over(x: Tensor, real: Tensor) -> Tensor:
    """Mean (N, 1, D) of the real ones among rows (N, L, D)."""
    return (x * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(min=1)


def _newest_seen(state: _TokenState, candidates: CandidateSide) -> Tensor:
    """Row (B C, D) of the newest behavior that each candidate sees, zeros if there is none."""
    length, count = state.mask.shape[1], candidates.items.shape[1]
    if not length:
        return state.rows.new_zeros((len(state.mask) * count, state.rows.shape[2]))
    column = (candidates.visible - 1).clamp(min=0)  # (B, C)
    seen = (candidates.visible > candidates.oldest) & state.mask.gather(1, column)  # (B, C)
    rows = state.rows.gather(1, column[..., None].expand(-1, -1, state.rows.shape[2]))  # (B, C, D)
    return (rows * seen[..., None]).flatten(0, 1)  # (B C, D)


def _newest(rows: Tensor, mask: Tensor) -> Tensor:
    """Row (N, D) of the newest behavior of each sequence, zeros if there is none."""
    column = torch.arange(mask.shape[1], device=mask.device)
    newest = torch.where(mask, column, -1).amax(dim=1)  # (N,)
    index = newest.clamp(min=0)[:, None, None].expand(-1, 1, rows.shape[2])  # (N, 1, D)
    row = rows.gather(1, index)[:, 0]  # (N, D)
    return row * (newest >= 0)[:, None]  # (N, D)
